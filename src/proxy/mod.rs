//! The data plane: one worker a core, each with its own listeners, connections, and upstream pools; they share the route table and nothing else.

mod answer;
mod body;
mod connection;
mod connections;
mod deadline;
mod error;
mod exchange;
mod guard;
mod handler;
mod listener;
mod listeners;
mod upgrade;
mod upstream;
mod worker;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
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
    listener::Sharing,
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
    /// For each address, a socket for each worker at least.
    listeners: Vec<Vec<TcpListener>>,
    /// References to those that are new at an address where others were inherited.
    fresh: Vec<OwnedFd>,
}

/// What another process that serves the same addresses has to do with this one's sockets.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Its sockets. Those that [`Settings::http`] doesn't name are closed here.
    pub sockets: Vec<TcpListener>,
    /// It runs on without having passed any, and shall be joined.
    pub beside: bool,
}

/// Binds every socket. An address that another process has is an error.
///
/// # Errors
/// The first address that can't be bound.
pub fn bind(settings: Settings) -> Result<Bound, BindError> {
    adopt(settings, Inherited::default())
}

/// Takes the sockets that are there, and binds those that are missing. Where there are any, no other one listens before [`Bound::start`]: it would get a
/// share of the connections that somebody else could serve at once.
///
/// # Errors
/// The first address that can't be bound.
pub fn adopt(settings: Settings, inherited: Inherited) -> Result<Bound, BindError> {
    let workers = settings.workers.max(1);
    let Inherited { sockets, beside } = inherited;
    let alone = sockets.is_empty() && !beside;
    let mut known: Vec<(SocketAddr, TcpListener)> =
        sockets.into_iter().filter_map(|socket| Some((socket.local_addr().ok()?, socket))).collect();
    let mut listeners = Vec::with_capacity(settings.http.len());
    let mut fresh = Vec::new();
    for &address in &settings.http {
        let (same, others): (Vec<_>, Vec<_>) = known.into_iter().partition(|(known, _)| *known == address);
        known = others;
        // One port may be bound for all addresses where the other process has it for a single one, and the other way round.
        let sharing =
            if beside || known.iter().any(|(known, _)| known.port() == address.port()) { Sharing::Wanted } else { Sharing::Refused };
        let same: Vec<_> = same.into_iter().map(|(_, socket)| socket).collect();
        let inherited = same.len();
        let failed = |cause| BindError { address, cause };
        let sockets = listener::bind(address, same, workers, sharing).map_err(failed)?;
        if inherited > 0 {
            let added = sockets.iter().skip(inherited).map(|socket| socket.as_fd().try_clone_to_owned());
            fresh.extend(added.collect::<io::Result<Vec<_>>>().map_err(failed)?);
        }
        listeners.push(sockets);
    }
    let bound = Bound { settings, listeners, fresh };
    if alone {
        bound.listen()?;
    }
    Ok(bound)
}

impl Bound {
    /// The addresses that are bound: with port 0, the port that the kernel chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|sockets| sockets.first()?.local_addr().ok()).collect()
    }

    /// References to the sockets that were bound beside inherited ones, once: whoever passed those on hasn't these.
    pub fn take_fresh(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fresh)
    }

    fn listen(&self) -> Result<(), BindError> {
        for (&address, listeners) in self.settings.http.iter().zip(&self.listeners) {
            listeners.iter().try_for_each(listener::listen).map_err(|cause| BindError { address, cause })?;
        }
        Ok(())
    }

    /// Starts the workers. `logs` holds one end of the access log for each worker.
    ///
    /// # Errors
    /// When a socket can't listen, or a thread can't be started.
    pub fn start(self, table: &table::Reader, logs: Vec<access_log::Local>) -> io::Result<Handle> {
        self.listen().map_err(io::Error::other)?;
        let resolver = Resolver::new();
        let Self { settings, listeners, fresh: _ } = self;
        let workers = settings.workers.max(1);
        let files = file_limit().saturating_sub(limits::RESERVED_FILES) / workers;
        let settings = Arc::new(settings);
        let (running, finished) = watch::channel(());
        let running = Arc::new(running);
        let mut commands = Vec::with_capacity(workers);
        let mut shares = shares(listeners, workers);
        for (index, log) in logs.into_iter().enumerate().take(workers) {
            let (sender, receiver) = mpsc::unbounded_channel();
            let seed = Seed {
                settings: Arc::clone(&settings),
                listeners: shares.next().unwrap_or_default(),
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

/// Deals each address's sockets out to the workers: one each, as a rule, and more where another process had more workers.
fn shares(listeners: Vec<Vec<TcpListener>>, workers: usize) -> impl Iterator<Item = Vec<TcpListener>> {
    let mut shares: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, socket) in listeners.into_iter().flat_map(|sockets| sockets.into_iter().enumerate()) {
        if let Some(share) = shares.get_mut(index % workers) {
            share.push(socket);
        }
    }
    shares.into_iter()
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
        let numbers = self.ask(Command::Numbers).await;
        let missing = self.commands.len() - numbers.len();
        (numbers, missing)
    }

    /// References to the listening sockets of all workers, for another process. `None` if not all of them could answer in time: a socket that were
    /// missing would be accepted from by nobody.
    pub async fn share(&self) -> Option<Vec<OwnedFd>> {
        let shared = self.ask(Command::Share).await;
        if shared.len() < self.commands.len() {
            return None;
        }
        shared.into_iter().collect::<io::Result<Vec<_>>>().ok().map(|sockets| sockets.into_iter().flatten().collect())
    }

    /// Stops accepting at these addresses, where another process accepts from the same sockets, and accepts at all others; with none, everywhere again.
    /// While there are any, each client's next response asks it to reconnect. False if not all workers said in time that they do so.
    pub async fn yield_to_another(&self, addresses: &[SocketAddr]) -> bool {
        self.ask(|reply| Command::Yield(addresses.to_vec(), reply)).await.len() == self.commands.len()
    }

    /// Accepts from these sockets, too, which another process has bound at the same addresses. One at any other address is closed.
    pub fn take_in(&self, sockets: Vec<OwnedFd>) {
        for (socket, worker) in sockets.into_iter().zip(self.commands.iter().cycle()) {
            // A worker that has ended serves nobody.
            let _ = worker.send(Command::Listen(socket.into()));
        }
    }

    /// What every worker answers that does so in time.
    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let replies: Vec<_> = self
            .commands
            .iter()
            .map(|commands| {
                let (sender, receiver) = oneshot::channel();
                commands.send(command(sender)).map(|()| receiver)
            })
            .collect();
        let deadline = Instant::now() + limits::SCRAPE_TIMEOUT;
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies.into_iter().flatten() {
            if let Ok(Ok(answer)) = timeout(deadline.saturating_duration_since(Instant::now()), reply).await {
                answers.push(answer);
            }
        }
        answers
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
