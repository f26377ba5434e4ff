//! What a worker is started with, and what it is told afterwards.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::super::{Settings, handle::Open, listener::Entrance, upstream::Resolver};
use crate::{access_log, metrics::Numbers, table};

/// What the rest of the process tells a worker.
pub(crate) enum Command {
    /// Send a copy of your numbers.
    Numbers(oneshot::Sender<Numbers>),
    /// Send what is under way.
    Open(oneshot::Sender<Open>),
    /// Send references to your listening sockets.
    Share(oneshot::Sender<std::io::Result<Vec<OwnedFd>>>),
    /// Stop accepting at these addresses, where another process does so, and accept at all others; then say so.
    Yield(Vec<SocketAddr>, oneshot::Sender<()>),
    /// Accept from this socket, too, if it is at an address that you serve.
    Listen(std::net::TcpListener),
    /// Stop accepting, finish what is under way until the given moment, then end.
    Drain(Instant),
}

/// What a worker's thread starts with.
pub(crate) struct Seed {
    pub(crate) settings: Arc<Settings>,
    pub(crate) listeners: Vec<std::net::TcpListener>,
    /// How connections begin at each address.
    pub(crate) entrances: Vec<(SocketAddr, Entrance)>,
    pub(crate) table: table::Reader,
    pub(crate) log: access_log::Local,
    pub(crate) resolver: Resolver,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// File descriptors that this worker may have open for both sides together.
    pub(crate) files: usize,
}
