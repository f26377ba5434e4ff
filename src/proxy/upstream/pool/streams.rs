//! Connections to backends that carry several requests at a time (HTTP/2): which of them takes the next one, and when there is to be another one.

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    super::{
        super::{error::Reason, worker::Worker},
        destination::Destination,
        lease::Lease,
    },
    Pools,
};
use crate::config::limits::{Limits, UPSTREAM_STREAMS};

/// Those of one pool.
#[derive(Default)]
pub(in super::super) struct Streams {
    connections: Vec<Rc<Multiplexed>>,
    /// One is being opened: whoever needs one waits for it.
    dialling: bool,
    /// Requests that wait.
    waiting: usize,
    /// How many times opening one has failed, and why the last time.
    failures: (u64, Option<Reason>),
    /// Whether the last one that was opened can carry several requests; `None`: there was none yet.
    multiplexes: Option<bool>,
    /// Rung when there is another connection, or none after all, or one has room again.
    pub(in super::super) changed: Rc<Notify>,
}

/// A connection, for as long as a request or its pool holds it.
pub(in super::super) struct Multiplexed {
    pub(in super::super) destination: Destination,
    pub(in super::super) sender: SendRequest<Bytes>,
    /// After this moment it gets no new requests.
    expires: Instant,
    epoch: u64,
    retired: bool,
    /// Requests on it.
    under_way: Cell<usize>,
    /// Requests that it has been given.
    carried: Cell<u64>,
    idle_since: Cell<Instant>,
    /// How many requests the backend allows at a time, as its connection's task has heard; 0: it hasn't said yet.
    allowed: Rc<Cell<usize>>,
    changed: Rc<Notify>,
    driver: AbortHandle,
}

/// What a connection is opened with.
pub(in super::super) struct Opened {
    pub(in super::super) destination: Destination,
    pub(in super::super) sender: SendRequest<Bytes>,
    pub(in super::super) expires: Instant,
    pub(in super::super) epoch: u64,
    pub(in super::super) retired: bool,
    pub(in super::super) allowed: Rc<Cell<usize>>,
    pub(in super::super) driver: AbortHandle,
}

/// One request's place on a connection.
pub(in super::super) struct Place {
    pub(in super::super) connection: Rc<Multiplexed>,
    /// The task that sends the request's body. Without it, and whoever reads the response, the stream is reset.
    pub(in super::super) upload: Option<AbortHandle>,
}

/// What whoever finds no room is to do.
pub(in super::super) enum NoRoom {
    /// Open a connection, and say so when that is done.
    Dial,
    /// Ask again when something has changed.
    Wait(Rc<Notify>),
}

impl Pools {
    /// A place on a connection that carries several requests at a time, or else what to do about it. `endpoints` as above.
    pub(in super::super) fn enter(
        &self,
        worker: &Rc<Worker>,
        destination: &Destination,
        endpoints: Option<&Arc<[SocketAddr]>>,
    ) -> Result<Lease, NoRoom> {
        let now = worker.deadlines.now();
        let mut pools = self.by_destination.borrow_mut();
        let pool = pools.entry(destination.clone()).or_default();
        pool.heed(endpoints, now);
        let epoch = pool.epoch;
        let streams = pool.streams.get_or_insert_default();
        let place = streams.take(now, epoch).ok_or_else(|| streams.no_room())?;
        drop(pools);
        Ok(Lease::on(place, worker))
    }

    /// Keeps a new connection that carries several requests at a time, and returns a place on it.
    pub(in super::super) fn share(&self, opened: Opened, now: Instant) -> Place {
        let mut pools = self.by_destination.borrow_mut();
        let pool = pools.entry(opened.destination.clone()).or_default();
        pool.streams.get_or_insert_default().add(opened, now)
    }

    /// What is rung when more requests may find a place.
    pub(in super::super) fn changes(&self, destination: &Destination) -> Rc<Notify> {
        let mut pools = self.by_destination.borrow_mut();
        Rc::clone(&pools.entry(destination.clone()).or_default().streams.get_or_insert_default().changed)
    }

    /// A place on a connection that is there.
    pub(in super::super) fn place(
        &self,
        worker: &Rc<Worker>,
        destination: &Destination,
        endpoints: Option<&Arc<[SocketAddr]>>,
    ) -> Option<Lease> {
        let now = worker.deadlines.now();
        let mut pools = self.by_destination.borrow_mut();
        let pool = pools.get_mut(destination)?;
        pool.heed(endpoints, now);
        let place = pool.streams.as_ref()?.take(now, pool.epoch)?;
        drop(pools);
        Some(Lease::on(place, worker))
    }

    /// Counts a request that waits, until it is told otherwise. Returns how many times opening a connection has failed.
    pub(in super::super) fn begin_waiting(&self, destination: &Destination) -> u64 {
        self.with_streams(destination, |streams| {
            streams.waiting += 1;
            streams.failures.0
        })
        .unwrap_or_default()
    }

    /// The request waits no more. Returns why opening a connection has failed, if it has since there were `failures`.
    pub(in super::super) fn end_waiting(&self, destination: &Destination, failures: u64) -> Option<Reason> {
        self.with_streams(destination, |streams| {
            streams.waiting = streams.waiting.saturating_sub(1);
            streams.failures.1.filter(|_| streams.failures.0 != failures)
        })
        .flatten()
    }

    /// A connection couldn't be opened.
    pub(in super::super) fn dial_failed(&self, destination: &Destination, reason: Reason) {
        self.with_streams(destination, |streams| streams.failures = (streams.failures.0 + 1, Some(reason)));
    }

    fn with_streams<T>(&self, destination: &Destination, change: impl FnOnce(&mut Streams) -> T) -> Option<T> {
        self.by_destination.borrow_mut().get_mut(destination).and_then(|pool| pool.streams.as_deref_mut()).map(change)
    }

    /// A connection was opened, whether or not it can carry several requests; or couldn't be.
    pub(in super::super) fn dialled(&self, destination: &Destination, multiplexes: Option<bool>) {
        self.with_streams(destination, |streams| streams.dialled(multiplexes));
    }
}

impl Streams {
    /// A place on the connection with the fewest requests that has room.
    pub(in super::super) fn take(&self, now: Instant, epoch: u64) -> Option<Place> {
        let usable = self.connections.iter().filter(|connection| connection.is_usable(now, epoch) && connection.has_room());
        usable.min_by_key(|connection| connection.under_way.get()).map(Multiplexed::enter)
    }

    pub(in super::super) fn no_room(&mut self) -> NoRoom {
        if self.multiplexes == Some(false) {
            return NoRoom::Dial;
        }
        if self.dialling {
            return NoRoom::Wait(Rc::clone(&self.changed));
        }
        // The latest may have room as soon as it is known how many requests it may carry.
        if self.connections.last().is_some_and(|latest| latest.is_new()) {
            return NoRoom::Wait(Rc::clone(&self.changed));
        }
        self.dialling = true;
        NoRoom::Dial
    }

    /// A connection was opened, whether or not it can carry several requests; or couldn't be.
    pub(in super::super) fn dialled(&mut self, multiplexes: Option<bool>) {
        self.multiplexes = multiplexes.or(self.multiplexes);
        self.dialling = false;
        self.changed.notify_waiters();
    }

    /// Keeps a new connection, and returns a place on it.
    pub(in super::super) fn add(&mut self, opened: Opened, now: Instant) -> Place {
        let Opened { destination, sender, expires, epoch, retired, allowed, driver } = opened;
        let connection = Rc::new(Multiplexed {
            destination,
            sender,
            expires,
            epoch,
            retired,
            under_way: Cell::new(0),
            carried: Cell::new(0),
            idle_since: Cell::new(now),
            allowed,
            changed: Rc::clone(&self.changed),
            driver,
        });
        let place = connection.enter();
        self.connections.push(connection);
        place
    }

    /// Lets go of connections that get no new requests, and of those that have had none for long. Those that are busy end with their last one.
    pub(in super::super) fn sweep(&mut self, now: Instant, epoch: u64, limits: &Limits) {
        self.connections.retain(|connection| {
            let rests = connection.under_way.get() == 0 && now >= connection.idle_since.get() + limits.pool_idle_timeout;
            connection.is_usable(now, epoch) && !rests
        });
    }

    /// Lets go of one connection without a request.
    pub(in super::super) fn evict_idle(&mut self) -> bool {
        let idle = self.connections.iter().position(|connection| connection.under_way.get() == 0);
        idle.map(|index| self.connections.swap_remove(index)).is_some()
    }

    /// Requests that are under way, or want to be; `None`: its connections carry one at a time.
    pub(in super::super) fn load(&self) -> Option<usize> {
        let under_way: usize = self.connections.iter().map(|connection| connection.under_way.get()).sum();
        (self.multiplexes != Some(false)).then_some(under_way + self.waiting + usize::from(self.dialling))
    }

    /// Connections without a request.
    pub(in super::super) fn idle(&self) -> usize {
        self.connections.iter().filter(|connection| connection.under_way.get() == 0).count()
    }

    pub(in super::super) fn is_wanted(&self) -> bool {
        self.dialling || self.waiting > 0
    }
}

impl Multiplexed {
    fn enter(self: &Rc<Self>) -> Place {
        self.under_way.set(self.under_way.get() + 1);
        self.carried.set(self.carried.get() + 1);
        Place { connection: Rc::clone(self), upload: None }
    }

    /// Takes no more requests: it is gone, or its backend has said so.
    fn is_closed(&self) -> bool {
        // Of a handle without a request of its own that is all there is to wait for.
        matches!(self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    fn is_usable(&self, now: Instant, epoch: u64) -> bool {
        !self.is_closed() && now < self.expires && self.epoch == epoch && !self.retired
    }

    /// Nothing has come from the backend yet.
    fn is_new(&self) -> bool {
        !self.is_closed() && self.allowed.get() == 0
    }

    fn has_room(&self) -> bool {
        self.under_way.get() < self.allowed.get().clamp(1, UPSTREAM_STREAMS)
    }

    /// Whether it has carried a request before this one: then it may have died in the meantime.
    pub(in super::super) fn is_reused(&self) -> bool {
        self.carried.get() > 1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self { connection, upload } = self;
        if let Some(upload) = upload {
            upload.abort();
        }
        connection.idle_since.set(Instant::now());
        connection.under_way.set(connection.under_way.get().saturating_sub(1));
        connection.changed.notify_one();
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
