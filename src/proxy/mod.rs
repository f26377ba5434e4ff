//! The data plane: one worker a core, each with its own listeners, connections, and upstream pools; they share the route table and nothing else.

mod answer;
mod body;
mod bound;
mod connection;
mod connections;
mod deadline;
mod error;
mod exchange;
mod guard;
mod handle;
mod handler;
mod listener;
mod listeners;
mod stream;
mod tls;
mod upgrade;
mod upstream;
mod worker;

use std::net::SocketAddr;

pub use self::{
    bound::{BindError, Bound, Inherited, adopt, bind},
    error::{Fault, Reason},
    handle::Handle,
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
    /// The oldest version of TLS that is spoken there.
    pub tls_min_version: MinVersion,
    /// Threads, each with its own listeners and pools.
    pub workers: usize,
    /// Whose forwarded headers are believed.
    pub trust: Trust,
    /// Whose connections are accepted; `None`: everybody's.
    pub allow_peers: Option<IpSet>,
    /// Whether `Server: nodegate` is added where the backend sent none.
    pub server_header: bool,
    /// Whether ExternalName Services may lead to loopback, link-local and metadata addresses.
    pub allow_unsafe_external: bool,
    /// Limits and timeouts.
    pub limits: Limits,
}

impl Settings {
    /// All addresses, those with plain HTTP first.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.http.iter().chain(&self.https).copied()
    }
}
