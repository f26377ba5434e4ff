//! What a route leads to: a Service port, resolved to addresses as far as the configuration can. No I/O here: dialling is the proxy's.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::certificate::{Offer, ServerTrust};

/// One port of one Service, with everything the proxy needs to dial it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Which Service and port this is.
    pub id: BackendId,
    /// What to speak with it.
    pub protocol: Protocol,
    /// How to reach it.
    pub target: Target,
    /// What its EndpointSlices say about the pods behind it.
    pub endpoints: Endpoints,
}

/// The identity of a backend: `namespace/service:port`, the port as the Ingress spelt it (number or name). What is no Service (a `resource`)
/// is `namespace/Kind/name`, with an empty port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// The port, as the Ingress spelt it.
    pub port: Arc<str>,
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// What is spoken with a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS.
    H2c,
    /// TLS, with what a handshake agrees on.
    Tls(Arc<BackendTls>),
}

/// How a backend proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// The name that its certificate must be for, and that it is asked for.
    pub server_name: Arc<str>,
    /// Who has to vouch for it.
    pub trust: Arc<ServerTrust>,
    /// Which versions of HTTP will do.
    pub offer: Offer,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1 => f.write_str("http"),
            Self::H2c => f.write_str("h2c"),
            Self::Tls(tls) => {
                let BackendTls { server_name, trust, offer } = &**tls;
                f.write_str(if *offer == Offer::Http2 { "h2" } else { "https" })?;
                write!(f, " as {server_name}, {trust}")
            }
        }
    }
}

/// How a backend is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The Service's ClusterIP, one address for each IP family, in the order of `spec.clusterIPs`: kube-proxy balances.
    ClusterIp(Arc<[SocketAddr]>),
    /// The ready endpoints themselves, the least loaded of two random ones: headless Services and `nodegate.dev/dial: endpoints`.
    Endpoints,
    /// An ExternalName Service: a DNS name, resolved when dialled.
    Dns {
        /// The name, without a trailing dot.
        host: Arc<str>,
        /// The port of the Service.
        port: u16,
    },
    /// Nothing to dial: every request is answered 503 with the reason `bad_backend`. The text is for diagnostics and `explain`, never for a client.
    Unavailable(Arc<str>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp(addresses) => {
                f.write_str("clusterip ")?;
                write_list(f, addresses)
            }
            Self::Endpoints => f.write_str("endpoints"),
            Self::Dns { host, port } => write!(f, "dns {host}:{port}"),
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
        }
    }
}

/// The pods behind a Service, as its EndpointSlices tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    /// No EndpointSlice was given at all (file mode): the Service is dialled.
    Unknown,
    /// The addresses that may be dialled, sorted: the ready ones, or, where none is ready, those that are terminating but still
    /// serving (kube-proxy does the same). Empty: answered 503 at once.
    Known(Arc<[SocketAddr]>),
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Known(addresses) if addresses.is_empty() => f.write_str("none"),
            Self::Known(addresses) => write_list(f, addresses),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, addresses: &[SocketAddr]) -> fmt::Result {
    for (index, address) in addresses.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{address}")?;
    }
    Ok(())
}
