//! The sockets before anything is served: taken over from another process or bound, and dealt out to the workers.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};

use super::{
    Handle, Protocol, Settings,
    listener::{self, Entrance, Sharing},
    tls,
    upstream::Resolver,
    worker::{self, Seed},
};
use crate::{access_log, config::limits, table};

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
        io::ErrorKind::AddrInUse => "stop what listens there, or name another address with --http, --https or --h2c",
        io::ErrorKind::PermissionDenied => {
            "run with the capability NET_BIND_SERVICE, lower net.ipv4.ip_unprivileged_port_start, or name a higher port with --http and --https"
        }
        io::ErrorKind::AddrNotAvailable => "name an address of this machine with --http or --https",
        _ => "name another address with --http or --https",
    }
}

/// The data plane with its sockets bound, serving nothing yet.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    /// For each address, a socket for each worker at least; in the order of [`Settings::addresses`].
    listeners: Vec<Vec<TcpListener>>,
    /// References to those that are new at an address where others were inherited.
    fresh: Vec<OwnedFd>,
}

/// What another process that serves the same addresses has to do with this one's sockets.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Its sockets. Those that are at none of the addresses of [`Settings`] are closed here.
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
    let mut listeners = Vec::new();
    let mut fresh = Vec::new();
    for (address, _) in settings.addresses() {
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
    /// The addresses that are bound, in the order of the settings, those with plain HTTP first: with port 0, the port that the kernel chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|sockets| sockets.first()?.local_addr().ok()).collect()
    }

    /// The same, with what is spoken there.
    pub fn protocols(&self) -> Vec<(SocketAddr, Protocol)> {
        self.addresses().into_iter().zip(self.settings.addresses()).map(|(address, (_, protocol))| (address, protocol)).collect()
    }

    /// How connections begin at each address.
    fn entrances(&self, table: &table::Reader) -> io::Result<Vec<(SocketAddr, Entrance)>> {
        let mut tls = None;
        let protocols = self.protocols().into_iter().map(|(address, protocol)| {
            let entrance = match (protocol, &tls) {
                (Protocol::Http, _) => Entrance::Http1,
                (Protocol::H2c, _) => Entrance::Http2,
                (Protocol::Https, Some(server)) => Entrance::Tls(Arc::clone(server)),
                (Protocol::Https, None) => {
                    let server = tls::Server::new(table, &self.settings).map_err(io::Error::other)?;
                    Entrance::Tls(Arc::clone(tls.insert(Arc::new(server))))
                }
            };
            Ok((address, entrance))
        });
        protocols.collect()
    }

    /// References to the sockets that were bound beside inherited ones, once: whoever passed those on hasn't these.
    pub fn take_fresh(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fresh)
    }

    fn listen(&self) -> Result<(), BindError> {
        for ((address, _), listeners) in self.settings.addresses().zip(&self.listeners) {
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
        let entrances = self.entrances(table)?;
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
                entrances: entrances.clone(),
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
        Ok(Handle::new(commands.into(), finished))
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
