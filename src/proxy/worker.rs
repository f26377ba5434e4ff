//! One worker: a thread with its own runtime, listening sockets, upstream pools and numbers. Nothing here is shared with another thread but the
//! route table, which is read through a cache.

mod seed;

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    ops::Deref,
    rc::Rc,
    sync::Arc,
};

use fastrand::Rng;
use http::HeaderValue;
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

pub(crate) use self::seed::{Command, Seed};
use super::{
    Settings,
    connections::Connections,
    date::HttpDate,
    deadline::Deadlines,
    handle::Open,
    http2::Windows,
    leave::Streams,
    listener::{self, Entrance},
    listeners::Listeners,
    tls::Turns,
    upstream::{Budget, Pools, Resolver},
};
use crate::{access_log, config::limits, metrics::Numbers, table};

/// The state of a worker, shared by the tasks of its thread.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) pools: Pools,
    pub(crate) retry_budget: Budget,
    pub(crate) resolver: Resolver,
    pub(crate) connections: Connections,
    pub(crate) windows: Windows,
    pub(crate) streams: Streams,
    /// Rung whenever a connection ends.
    pub(crate) room: Notify,
    pub(crate) random: RefCell<Rng>,
    date: HttpDate,
    /// For joining the pieces of a write; empty between two writes.
    pub(crate) scratch: RefCell<Vec<u8>>,
    entrances: Vec<(SocketAddr, Entrance)>,
    /// Which handshake is computed next.
    pub(crate) turns: Rc<Turns>,
    table: RefCell<table::Reader>,
    current: RefCell<Rc<Current>>,
    numbers: RefCell<Numbers>,
    log: RefCell<access_log::Local>,
    pub(crate) listeners: Listeners,
    told_of_redirects: Cell<bool>,
    draining: Cell<bool>,
    drain: Notify,
    max_connections: usize,
    max_upstream: usize,
}

/// The table in force, counted within the thread: no other core hears of a request that holds it.
pub(crate) struct Current(Arc<table::Published>);

impl Deref for Current {
    type Target = table::Published;

    fn deref(&self) -> &table::Published {
        &self.0
    }
}

impl Worker {
    /// Changes the worker's numbers.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.numbers.borrow_mut());
    }

    /// The table in force.
    pub(crate) fn table(&self) -> Rc<Current> {
        let mut reader = self.table.borrow_mut();
        let latest = reader.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(latest, &current.0) {
            *current = Rc::new(Current(Arc::clone(latest)));
        }
        Rc::clone(&current)
    }

    /// A request that was to be redirected says that it has come over HTTPS already, on the word of somebody who isn't trusted.
    pub(crate) fn redirect_withheld(&self) {
        self.count(|numbers| numbers.redirects_withheld += 1);
        if !self.told_of_redirects.replace(true) {
            tracing::warn!(
                "requests for Ingresses with nodegate.dev/ssl-redirect say that they came over HTTPS to a proxy in front, which isn't trusted to say so: not \
                 redirected, or that would have no end; name that proxy with --trusted-proxies and let it send X-Forwarded-Proto, or let it pass TLS on \
                 (said once)"
            );
        }
    }

    /// What a response gets as `Date`.
    pub(crate) fn date(&self) -> HeaderValue {
        self.date.at(self.deadlines.wall_clock(self.deadlines.now()))
    }

    pub(crate) fn log(&self, record: &access_log::Record<'_>) {
        self.log.borrow_mut().push(record);
    }

    pub(crate) fn is_logging(&self) -> bool {
        self.log.borrow().enabled()
    }

    /// Whether `--allow-peers` lets this one in, and counts it if not.
    pub(crate) fn admits(&self, peer: SocketAddr) -> bool {
        let admitted = self.settings.allow_peers.as_ref().is_none_or(|allowed| allowed.contains(peer.ip()));
        if !admitted {
            self.count(|numbers| numbers.connections_refused += 1);
        }
        admitted
    }

    /// How a connection begins that came in at this address.
    pub(crate) fn entrance(&self, address: SocketAddr) -> Entrance {
        self.entrances.iter().find(|(known, _)| *known == address).map_or(Entrance::Http1, |(_, entrance)| entrance.clone())
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether clients had better reconnect after the response that they are about to get: another process accepts, or soon none does.
    pub(crate) fn sends_away(&self) -> bool {
        self.is_draining() || self.listeners.stands_by()
    }

    /// Resolves when the worker begins to drain.
    pub(crate) async fn drained(&self) {
        let notified = self.drain.notified();
        if !self.draining.get() {
            notified.await;
        }
    }

    /// Whether another client may come in.
    pub(crate) fn has_room(&self) -> bool {
        self.connections.len() < self.max_connections
    }

    /// Whether another upstream connection may be opened.
    pub(crate) fn may_dial(&self) -> bool {
        self.pools.open() < self.max_upstream || self.pools.evict_idle()
    }

    fn begin_drain(&self, until: Instant) {
        self.draining.set(true);
        self.streams.leave(self, until);
        self.drain.notify_waiters();
        for connection in self.connections.all() {
            connection.leave();
        }
    }
}

/// The body of a worker's thread.
pub(crate) fn run(seed: Seed) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())?;
    let worker = runtime.block_on(work(seed))?;
    // Requests and tunnels that were cut off are recorded when their tasks are dropped, which is here.
    drop(runtime);
    worker.log.borrow_mut().flush();
    Ok(())
}

fn listen(worker: &Rc<Worker>, listener: std::net::TcpListener) -> std::io::Result<()> {
    let listener = Rc::new(TcpListener::from_std(listener)?);
    let address = listener.local_addr()?;
    worker.listeners.open(&listener);
    tokio::task::spawn_local(listener::accept(Rc::clone(worker), listener, address));
    Ok(())
}

async fn work(seed: Seed) -> std::io::Result<Rc<Worker>> {
    let Seed { settings, listeners, entrances, mut table, log, resolver, mut commands, files } = seed;
    let current = Rc::new(Current(Arc::clone(table.load())));
    // Each client connection may need one to a backend: half of the files for either side.
    let max_connections = settings.limits.max_connections.min(files / 2).max(1);
    let worker = Rc::new(Worker {
        deadlines: Deadlines::new(),
        pools: Pools::default(),
        retry_budget: Budget::default(),
        resolver,
        connections: Connections::default(),
        windows: Windows::default(),
        streams: Streams::default(),
        room: Notify::new(),
        random: RefCell::new(Rng::new()),
        date: HttpDate::new(),
        scratch: RefCell::default(),
        entrances,
        turns: Rc::default(),
        table: RefCell::new(table),
        current: RefCell::new(current),
        numbers: RefCell::default(),
        log: RefCell::new(log),
        listeners: Listeners::default(),
        told_of_redirects: Cell::new(false),
        draining: Cell::new(false),
        drain: Notify::new(),
        max_connections,
        max_upstream: files.saturating_sub(max_connections).max(1),
        settings,
    });
    for listener in listeners {
        listen(&worker, listener)?;
    }
    let mut tick = interval(limits::DEADLINE_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deadline = None;
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                // Whoever asked may have given up.
                Some(Command::Numbers(reply)) => drop(reply.send(worker.snapshot_numbers())),
                Some(Command::Open(reply)) => drop(reply.send(Open::of(&worker.numbers.borrow()))),
                Some(Command::Share(reply)) => drop(reply.send(worker.listeners.share())),
                Some(Command::Yield(addresses, reply)) => {
                    worker.listeners.yield_to(addresses);
                    // As above.
                    let _ = reply.send(());
                }
                Some(Command::Listen(listener)) => {
                    // Told again, since the process that leaves it to us may have told it otherwise.
                    if worker.listeners.serves(&listener)
                        && let Err(error) = listener::listen(&listener).and_then(|()| listen(&worker, listener))
                    {
                        tracing::warn!(%error, "can't accept from a socket of the process that has ended");
                    }
                }
                Some(Command::Drain(at)) => {
                    deadline = Some(at);
                    worker.begin_drain(at);
                }
                // Everyone who could command us is gone.
                None => break,
            },
            _ = tick.tick() => worker.tick(),
            () = worker.idle(), if worker.is_draining() => break,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
        }
    }
    Ok(worker)
}

impl Worker {
    fn tick(&self) {
        self.deadlines.sweep();
        // A worker without requests would keep the table of its last one alive, and with it all that an edit has replaced.
        drop(self.table());
        self.pools.sweep(self.deadlines.now(), &self.settings.limits);
        self.log.borrow_mut().flush();
    }

    /// Closes a listening socket, whose queue is empty or another process's.
    pub(crate) fn stopped_listening(&self, listener: Rc<TcpListener>) {
        self.listeners.close(&listener);
        drop(listener);
        self.room.notify_waiters();
    }

    /// Resolves when the last connection is gone, and none can come in any more.
    async fn idle(&self) {
        loop {
            let notified = self.room.notified();
            if self.listeners.is_empty() && self.connections.len() == 0 {
                return;
            }
            notified.await;
        }
    }

    fn snapshot_numbers(&self) -> Numbers {
        let mut numbers = self.numbers.borrow_mut();
        numbers.upstream_open = self.pools.open() as u64;
        numbers.upstream_idle = self.pools.idle() as u64;
        numbers.log_dropped = self.log.borrow().dropped();
        numbers.scrape()
    }
}
