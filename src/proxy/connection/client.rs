//! Who is at the other end of a connection, and for which host the connection was made.

use std::{net::SocketAddr, sync::Arc};

use super::{super::tls, Connection};
use crate::{certificate::ClientTrust, message::Downstream, route::Snapshot};

impl Connection {
    /// The other end of the connection, or the one that it was passed on for.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.source.get().map_or(self.peer, |source| source.0)
    }

    pub(crate) fn downstream(&self) -> &Downstream {
        self.source.get().map_or(&self.downstream, |source| &source.1)
    }

    /// The connection was passed on for somebody else, who counts as its other end from now on, and may be said to have come with TLS.
    pub(crate) fn set_source(&self, source: SocketAddr, claims_tls: bool) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let downstream = self.downstream.for_peer(source.ip(), claims_tls, &self.worker.settings.trust);
        self.source.get_or_init(|| Box::new((source, downstream)));
    }

    pub(crate) fn set_server_name(&self, name: Option<&str>) {
        if let Some(name) = name {
            self.server_name.get_or_init(|| tls::asked_for(name).into());
        }
    }

    /// Its handshake demands a certificate that these authorities vouch for.
    pub(crate) fn set_clients(&self, clients: &Arc<ClientTrust>) {
        self.clients.get_or_init(|| Arc::clone(clients));
    }

    /// Who has vouched for the client, if anybody had to.
    pub(crate) fn clients(&self) -> Option<&Arc<ClientTrust>> {
        self.clients.get()
    }

    /// Whether its handshake was for another host than this one, as far as certificates go (RFC 9110 section 15.5.20).
    pub(crate) fn is_misdirected(&self, table: &Snapshot, host: &str) -> bool {
        // HTTP/1.0 can do without a host, and then means the one that the connection was made for.
        let is_same =
            || table.may_share_a_connection(self.server_name.get().map(AsRef::as_ref), host) && table.clients(host) == self.clients.get();
        self.downstream().has_tls() && !host.is_empty() && !is_same()
    }
}
