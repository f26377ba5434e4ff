//! The data plane: one worker a core, each with its own listeners, connections, and upstream pools; they share the route table and nothing else.

mod answer;
mod body;
mod bound;
mod connection;
mod connections;
mod date;
mod deadline;
mod error;
mod exchange;
mod farewell;
mod guard;
mod handle;
mod handler;
mod http2;
mod https_only;
mod leave;
mod listener;
mod listeners;
mod proxy_protocol;
mod stream;
mod tls;
mod upgrade;
mod upstream;
mod worker;

use std::net::SocketAddr;

pub use self::{
    bound::{BindError, Bound, Inherited, adopt, bind},
    error::{Fault, Reason},
    handle::{Handle, Open},
    tls::{MinVersion, TlsError},
};
use crate::{
    config::limits::Limits,
    message::{IpSet, Trust},
};

/// Everything the data plane is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to serve plain HTTP on.
    pub http: Vec<SocketAddr>,
    /// Addresses to serve HTTP over TLS on.
    pub https: Vec<SocketAddr>,
    /// Addresses to serve HTTP/2 without TLS on.
    pub h2c: Vec<SocketAddr>,
    /// Whether HTTP/2 is offered over TLS.
    pub http2: bool,
    /// The oldest version of TLS that is spoken.
    pub tls_min_version: MinVersion,
    /// Threads, each with its own listeners and pools.
    pub workers: usize,
    /// Whose forwarded headers are believed.
    pub trust: Trust,
    /// Whose connections begin with PROXY protocol.
    pub proxy_protocol: Option<IpSet>,
    /// Whose connections are accepted; `None`: everybody's.
    pub allow_peers: Option<IpSet>,
    /// Whether `Server: nodegate` is added where the backend sent none.
    pub server_header: bool,
    /// Whether ExternalName Services may lead to loopback, link-local and metadata addresses.
    pub allow_unsafe_external: bool,
    /// Limits and timeouts.
    pub limits: Limits,
}

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.
    Http,
    /// HTTP/1 or HTTP/2 over TLS.
    Https,
    /// HTTP/2 without TLS.
    H2c,
}

impl Protocol {
    /// As the flag is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }
}

impl Settings {
    /// All addresses, those with plain HTTP first, and what is spoken there.
    fn addresses(&self) -> impl Iterator<Item = (SocketAddr, Protocol)> {
        let all = [(&self.http, Protocol::Http), (&self.https, Protocol::Https), (&self.h2c, Protocol::H2c)];
        all.into_iter().flat_map(|(addresses, protocol)| addresses.iter().map(move |address| (*address, protocol)))
    }
}
