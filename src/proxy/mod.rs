//! The data plane: one worker a core, each with its own listeners, connections, and upstream pools; they share the route table and nothing else.

mod answer;
mod body;
mod connection;
mod deadline;
mod error;
mod exchange;
mod guard;
mod handler;
mod listener;
mod upgrade;
mod upstream;
mod worker;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

pub use self::error::{Fault, Reason};
use self::{
    upstream::Resolver,
    worker::{Command, Seed},
};
use crate::{
    access_log,
    config::limits::{self, Limits},
    message::{IpSet, Trust},
    metrics::Numbers,
    table,
};

/// Everything the data plane is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to serve plain HTTP on.
    pub http: Vec<SocketAddr>,
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

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {cause}; {}", hint(cause))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub cause: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or name another address with --http",
        io::ErrorKind::PermissionDenied => {
            "run with the capability NET_BIND_SERVICE, lower net.ipv4.ip_unprivileged_port_start, or name a higher port with --http"
        }
        io::ErrorKind::AddrNotAvailable => "name an address of this machine with --http",
        _ => "name another address with --http",
    }
}

/// The data plane with its sockets bound, serving nothing yet.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    /// For each address, a socket for each worker.
    listeners: Vec<Vec<TcpListener>>,
}

/// Binds every socket.
///
/// # Errors
/// The first address that can't be bound.
pub fn bind(settings: Settings) -> Result<Bound, BindError> {
    let workers = settings.workers.max(1);
    let bind = |&address| listener::bind(address, workers).map_err(|cause| BindError { address, cause });
    let listeners = settings.http.iter().map(bind).collect::<Result<_, _>>()?;
    Ok(Bound { settings, listeners })
}

impl Bound {
    /// The addresses that are bound: with port 0, the port that the kernel chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|sockets| sockets.first()?.local_addr().ok()).collect()
    }

    /// Starts the workers. `logs` holds one end of the access log for each worker.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(self, table: &table::Reader, logs: Vec<access_log::Local>) -> io::Result<Handle> {
        let resolver = Resolver::new();
        let Self { settings, listeners } = self;
        let workers = settings.workers.max(1);
        let files = file_limit().saturating_sub(limits::RESERVED_FILES) / workers;
        let settings = Arc::new(settings);
        let (running, finished) = watch::channel(());
        let running = Arc::new(running);
        let mut commands = Vec::with_capacity(workers);
        let mut sockets: Vec<_> = listeners.into_iter().map(Vec::into_iter).collect();
        for (index, log) in logs.into_iter().enumerate().take(workers) {
            let (sender, receiver) = mpsc::unbounded_channel();
            let seed = Seed {
                settings: Arc::clone(&settings),
                listeners: sockets.iter_mut().filter_map(Iterator::next).collect(),
                table: table.clone(),
                log,
                resolver: resolver.clone(),
                commands: receiver,
                files,
            };
            let running = Arc::clone(&running);
            thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                if let Err(error) = worker::run(seed) {
                    tracing::error!(%error, index, "worker ended");
                }
                drop(running);
            })?;
            commands.push(sender);
        }
        Ok(Handle { commands: commands.into(), finished })
    }
}

/// Raises the limit of open files to the most that is allowed, and returns it.
fn file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

/// The running data plane.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: Arc<[mpsc::UnboundedSender<Command>]>,
    /// Closed when the last worker has ended.
    finished: watch::Receiver<()>,
}

impl Handle {
    /// A copy of every worker's numbers, and how many workers didn't answer in time.
    pub async fn numbers(&self) -> (Vec<Numbers>, usize) {
        let replies: Vec<_> = self
            .commands
            .iter()
            .map(|commands| {
                let (sender, receiver) = oneshot::channel();
                commands.send(Command::Numbers(sender)).map(|()| receiver)
            })
            .collect();
        let asked = replies.len();
        let deadline = Instant::now() + limits::SCRAPE_TIMEOUT;
        let mut numbers = Vec::with_capacity(asked);
        for reply in replies.into_iter().flatten() {
            if let Ok(Ok(worker)) = timeout(deadline.saturating_duration_since(Instant::now()), reply).await {
                numbers.push(worker);
            }
        }
        let missing = asked - numbers.len();
        (numbers, missing)
    }

    /// Stops accepting, and lets requests and tunnels finish for as long as `grace`.
    pub fn drain(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        for worker in self.commands.iter() {
            // A worker that has ended has nothing to drain.
            let _ = worker.send(Command::Drain(deadline));
        }
    }

    /// Resolves when every worker has ended.
    pub async fn drained(&self) {
        let mut finished = self.finished.clone();
        // Nothing is ever sent: an error means that the last sender is gone.
        while finished.changed().await.is_ok() {}
    }
}
