//! Who is at the other end of a connection, and for which host the connection was made.

use std::{net::SocketAddr, sync::Arc};

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{
    super::{error::Reason, tls},
    Connection,
};
use crate::{certificate::ClientTrust, message::Downstream, route::Snapshot};

/// A client that has shown a certificate, and proved that it is its own.
pub(super) struct Client {
    /// Who has vouched for it.
    trust: Arc<ClientTrust>,
    chain: Vec<CertificateDer<'static>>,
    /// Who was asked since, and hasn't.
    refused: Option<Arc<ClientTrust>>,
}

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

    /// Its handshake has demanded a certificate that these authorities vouch for, and got it.
    pub(crate) fn set_client(&self, trust: Arc<ClientTrust>, chain: Vec<CertificateDer<'static>>) {
        self.client.replace(Some(Box::new(Client { trust, chain, refused: None })));
    }

    /// Who has vouched for the client and is believed by this host; `None`: nobody had to, or there is no TLS.
    ///
    /// # Errors
    /// `Misdirected` where the handshake was for another host than this one, as far as certificates go (RFC 9110 section 15.5.20); or for this one, and in the
    /// meantime it has come to believe others: then the connection ends, so that the client comes again.
    pub(crate) fn vouched(&self, table: &Snapshot, host: &str) -> Result<Option<Arc<ClientTrust>>, Reason> {
        let mut client = self.client.borrow_mut();
        let trust = client.as_ref().map(|client| &client.trust);
        // HTTP/1.0 can do without a host, and then means the one that the connection was made for.
        if !self.downstream().has_tls() || host.is_empty() {
            return Ok(trust.cloned());
        }
        let asked = self.server_name.get().map(AsRef::as_ref);
        if !table.may_share_a_connection(asked, host) {
            return Err(Reason::Misdirected);
        }
        let wanted = table.clients(host);
        if wanted == trust {
            return Ok(wanted.cloned());
        }
        if asked != Some(host) {
            return Err(Reason::Misdirected);
        }
        let Some(wanted) = wanted else { return Ok(None) };
        if client.as_mut().is_some_and(|client| client.is_still_known(wanted)) {
            return Ok(Some(Arc::clone(wanted)));
        }
        self.leave();
        Err(Reason::Misdirected)
    }
}

impl Client {
    /// Whether these authorities would let it in as well. Computed once for each version of them.
    fn is_still_known(&mut self, now: &Arc<ClientTrust>) -> bool {
        if self.refused.as_ref() == Some(now) {
            return false;
        }
        let known = now.vouches_for(&self.chain, UnixTime::now());
        if known {
            self.trust = Arc::clone(now);
        } else {
            self.refused = Some(Arc::clone(now));
        }
        known
    }
}
