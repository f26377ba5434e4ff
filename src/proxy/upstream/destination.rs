//! Where a connection goes, and how it begins: what the connections of one pool have in common.

use std::{
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    certificate::Offer,
    route::{BackendTls, Protocol},
};

/// See above.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
}

/// What is spoken on a connection to a backend.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS.
    H2c,
    /// TLS, with one of the versions offered.
    Tls(Arc<BackendTls>, Offer),
}

impl Transport {
    /// What to speak with a backend. `upgrade`: the request asks for another protocol, which it can do in HTTP/1.1 alone.
    pub(super) fn of(protocol: &Protocol, upgrade: bool) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1,
            // Whoever offers WebSockets beside HTTP/2 without TLS understands both on one port.
            Protocol::H2c if upgrade => Self::Http1,
            Protocol::H2c => Self::H2c,
            Protocol::Tls(tls) => Self::Tls(Arc::clone(tls), if upgrade { Offer::Http1 } else { tls.offer }),
        }
    }

    /// Whether a connection may carry several requests at a time.
    pub(super) fn may_multiplex(&self) -> bool {
        match self {
            Self::Http1 | Self::Tls(_, Offer::Http1) => false,
            Self::H2c | Self::Tls(_, Offer::Http2 | Offer::Either) => true,
        }
    }
}

impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http1, Self::Http1) | (Self::H2c, Self::H2c) => true,
            (Self::Tls(one, offer), Self::Tls(other, other_offer)) => offer == other_offer && (Arc::ptr_eq(one, other) || one == other),
            (Self::Http1 | Self::H2c | Self::Tls(..), _) => false,
        }
    }
}

impl Eq for Transport {}

impl Hash for Transport {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Http1 => state.write_u8(0),
            Self::H2c => state.write_u8(1),
            Self::Tls(tls, offer) => {
                state.write_u8(2);
                tls.server_name.hash(state);
                offer.hash(state);
            }
        }
    }
}
