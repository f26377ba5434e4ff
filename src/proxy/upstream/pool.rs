//! A worker's idle backend connections. Those to several pods are used in turn, so that load goes round; of those to one, the one that was used last is
//! next. Pods that go away retire those that were opened while they were there: only kube-proxy knows which connection leads to which pod.

mod avoided;
mod pods;
mod streams;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use self::streams::Streams;
pub(super) use self::streams::{NoRoom, Opened, Place};
use super::{
    super::worker::Worker,
    destination::Destination,
    lease::{Lease, Link},
};
use crate::config::limits::{Limits, REDRAW_BURST, REDRAWS_PER_SECOND, SPREAD_IDLE};

/// The pools of one worker, by where their connections go.
#[derive(Default)]
pub(crate) struct Pools {
    by_destination: RefCell<HashMap<Destination, Pool, RandomState>>,
    open: Cell<usize>,
    idle: Cell<usize>,
    /// When the next connection may be replaced for the sake of spreading.
    next_redraw: Cell<Option<Instant>>,
}

#[derive(Default)]
struct Pool {
    /// Those that were never used, then those that were, the one that was used last at the back.
    idle: VecDeque<Idle>,
    /// Connections that exist, idle ones and those being dialled included.
    open: usize,
    warming: bool,
    /// Dials that are under way beside other ones of the same request.
    beside: usize,
    /// Grows whenever a pod has gone away.
    epoch: u64,
    endpoints: Option<Arc<[SocketAddr]>>,
    /// The connections that carry several requests at a time, once there was a need for one.
    streams: Option<Box<Streams>>,
    /// When kube-proxy surely knows the newest pod: then all connections are replaced, or the pods before it would keep more of them.
    settles: Option<Instant>,
    /// Until when other addresses of the same backend are preferred to this one.
    avoided: Option<Instant>,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// Which idle connection is used next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// The one that has been idle for longest: each may lead to another pod.
    InTurn,
    /// The one that was used last, which the caches know best: all lead to one pod. What a burst has left over becomes old enough to be closed.
    LatestFirst,
}

/// A connection that exists, in the books of its pool until it is dropped.
pub(crate) struct Open {
    worker: Rc<Worker>,
    destination: Destination,
    epoch: u64,
}

impl Open {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let pools = &self.worker.pools;
        pools.open.set(pools.open.get() - 1);
        if let Some(pool) = pools.by_destination.borrow_mut().get_mut(&self.destination) {
            pool.open -= 1;
        }
    }
}

impl Pools {
    /// An idle connection. `endpoints` are the pods behind the address now, where that is known.
    pub(super) fn take(
        &self,
        worker: &Rc<Worker>,
        destination: &Destination,
        endpoints: Option<&Arc<[SocketAddr]>>,
        order: Order,
    ) -> Option<Lease> {
        let now = worker.deadlines.now();
        let mut retired = Vec::new();
        let mut pools = self.by_destination.borrow_mut();
        // The pods are remembered from the first request on, so that the second can tell whether one has gone since.
        let pool = if endpoints.is_some() { pools.entry(destination.clone()).or_default() } else { pools.get_mut(destination)? };
        pool.heed(endpoints, now);
        let mut found = None;
        for _ in 0..pool.idle.len() {
            let Some(idle) = (match order {
                Order::InTurn => pool.idle.pop_front(),
                Order::LatestFirst => pool.idle.pop_back(),
            }) else {
                break;
            };
            if idle.link.is_usable(now, pool.epoch) && now < idle.since + worker.settings.limits.pool_idle_timeout {
                found = Some(idle.link);
                break;
            }
            // Else it is not quite done with its last response.
            if idle.link.is_closed() || !idle.link.is_current(now, pool.epoch) {
                retired.push(idle);
            } else {
                match order {
                    Order::InTurn => pool.idle.push_back(idle),
                    Order::LatestFirst => pool.idle.push_front(idle),
                }
            }
        }
        drop(pools);
        self.idle.set(self.idle.get() - retired.len() - usize::from(found.is_some()));
        found.map(|link| Lease::new(link, worker, true))
    }

    /// Keeps an idle connection, unless it is too old or there are enough.
    pub(super) fn put(&self, link: Link, limits: &Limits, now: Instant) {
        let mut pools = self.by_destination.borrow_mut();
        let Some(pool) = pools.get_mut(&link.destination) else { return };
        let full = pool.idle.len() >= limits.pool_idle_per_backend;
        if full || link.is_closed() || !link.is_current(now, pool.epoch) {
            drop(pools);
            return;
        }
        let unused = link.carried == 0;
        let over = self.idle.get() >= limits.pool_idle_per_worker;
        let destination = over.then(|| link.destination.clone());
        let idle = Idle { link, since: now };
        if unused {
            pool.idle.push_front(idle);
        } else {
            pool.idle.push_back(idle);
        }
        drop(pools);
        self.idle.set(self.idle.get() + 1);
        if let Some(destination) = destination {
            // Another backend's: else one that comes late would have to be dialled for each request.
            let _ = self.evict(|other| *other != destination) || self.evict_idle();
        }
    }

    /// Enters a connection that is about to be dialled.
    pub(super) fn opening(&self, worker: &Rc<Worker>, destination: &Destination) -> Open {
        let mut pools = self.by_destination.borrow_mut();
        let pool = pools.entry(destination.clone()).or_default();
        pool.open += 1;
        self.open.set(self.open.get() + 1);
        Open { worker: Rc::clone(worker), destination: destination.clone(), epoch: pool.epoch }
    }

    /// A connection from the pool turned out to be dead: those that were opened with it are as good as dead.
    pub(super) fn distrust(&self, destination: &Destination) {
        if let Some(pool) = self.by_destination.borrow_mut().get_mut(destination) {
            pool.epoch += 1;
        }
    }

    /// Whether one more connection should be opened in the background: there are fewer than `wanted`, none is on its way, and the next one hasn't been
    /// idle for long.
    pub(super) fn begin_warming(&self, destination: &Destination, wanted: usize, now: Instant) -> bool {
        let mut pools = self.by_destination.borrow_mut();
        let Some(pool) = pools.get_mut(destination) else { return false };
        let all_used = pool.idle.front().is_none_or(|next| now < next.since + SPREAD_IDLE);
        let begin = !pool.warming && pool.open < wanted && all_used;
        pool.warming |= begin;
        begin
    }

    /// Whether a connection that has done its share should be replaced by a new one in the background: there are several pods to choose from, none is on
    /// its way, and this worker's part of [`REDRAWS_PER_SECOND`] isn't spent.
    pub(super) fn begin_redraw(&self, destination: &Destination, now: Instant, workers: usize) -> bool {
        let mut pools = self.by_destination.borrow_mut();
        let Some(pool) = pools.get_mut(destination) else { return false };
        let next = self.next_redraw.get().unwrap_or(now);
        let begin = pool.has_several_pods() && !pool.warming && next <= now;
        if begin {
            pool.warming = true;
            let workers = u32::try_from(workers).unwrap_or(u32::MAX);
            let interval = Duration::from_secs(1) * workers / REDRAWS_PER_SECOND;
            // What wasn't used lately is not saved up without end.
            let earliest = now.checked_sub(REDRAW_BURST).unwrap_or(now);
            self.next_redraw.set(Some(next.max(earliest) + interval));
        }
        begin
    }

    pub(super) fn end_warming(&self, destination: &Destination) {
        if let Some(pool) = self.by_destination.borrow_mut().get_mut(destination) {
            pool.warming = false;
        }
    }

    /// Enters a dial beside another one of the same request. False: there are `most` of these already.
    pub(super) fn begin_beside(&self, destination: &Destination, most: usize) -> bool {
        let mut pools = self.by_destination.borrow_mut();
        let pool = pools.entry(destination.clone()).or_default();
        let begin = pool.beside < most;
        pool.beside += usize::from(begin);
        begin
    }

    pub(super) fn end_beside(&self, destination: &Destination) {
        if let Some(pool) = self.by_destination.borrow_mut().get_mut(destination) {
            pool.beside -= 1;
        }
    }

    /// Requests that are on their way there now.
    pub(super) fn in_use(&self, destination: &Destination) -> usize {
        self.by_destination.borrow().get(destination).map_or(0, |pool| {
            let shared = pool.streams.as_ref().and_then(|streams| streams.load());
            shared.unwrap_or_else(|| pool.open.saturating_sub(pool.idle.len()))
        })
    }

    /// Connections that exist.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Connections that are idle.
    pub(crate) fn idle(&self) -> usize {
        let streams: usize =
            self.by_destination.borrow().values().filter_map(|pool| pool.streams.as_ref()).map(|streams| streams.idle()).sum();
        self.idle.get() + streams
    }

    /// Closes one idle connection to make room for another. False: there is none.
    pub(crate) fn evict_idle(&self) -> bool {
        self.evict(|_| true)
            || self.by_destination.borrow_mut().values_mut().filter_map(|pool| pool.streams.as_mut()).any(|streams| streams.evict_idle())
    }

    /// Closes one idle connection to a destination that may be `chosen`. False: there is none.
    fn evict(&self, chosen: impl Fn(&Destination) -> bool) -> bool {
        let mut pools = self.by_destination.borrow_mut();
        let evicted = pools.iter_mut().filter(|(destination, _)| chosen(destination)).find_map(|(_, pool)| pool.idle.pop_front());
        drop(pools);
        if evicted.is_some() {
            self.idle.set(self.idle.get() - 1);
        }
        evicted.is_some()
    }

    /// Closes what has been idle or alive too long, and forgets pools without connections.
    pub(crate) fn sweep(&self, now: Instant, limits: &Limits) {
        let mut retired = Vec::new();
        let mut idle = 0;
        self.by_destination.borrow_mut().retain(|_, pool| {
            let epoch = pool.epoch;
            let keeps =
                |idle: &Idle| !idle.link.is_closed() && idle.link.is_current(now, epoch) && now < idle.since + limits.pool_idle_timeout;
            if !pool.idle.iter().all(keeps) {
                let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut pool.idle).into_iter().partition(keeps);
                pool.idle = kept.into();
                retired.extend(gone);
            }
            idle += pool.idle.len();
            let mut dialling = false;
            if let Some(streams) = &mut pool.streams {
                streams.sweep(now, epoch, limits);
                dialling = streams.is_wanted();
            }
            pool.open > 0 || pool.beside > 0 || dialling || pool.remembers(now)
        });
        self.idle.set(idle);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::destination::Transport, *};

    pub(super) fn pods<const N: usize>(last: [u8; N]) -> Arc<[SocketAddr]> {
        last.iter().map(|last| SocketAddr::from(([192, 0, 2, *last], 80))).collect()
    }

    #[test]
    fn replacements_are_bounded_for_all_workers_together() {
        let (pools, start) = (Pools::default(), Instant::now());
        let destination = Destination { address: SocketAddr::from(([192, 0, 2, 9], 80)), transport: Transport::Http1 };
        let allowed = |workers: usize, now: Instant| {
            let begun = pools.begin_redraw(&destination, now, workers);
            pools.end_warming(&destination);
            begun
        };
        assert!(!allowed(1, start), "there is no pool");
        pools.by_destination.borrow_mut().insert(destination.clone(), Pool { endpoints: Some(pods([1])), ..Pool::default() });
        assert!(!allowed(1, start), "there is one pod only");
        pools.by_destination.borrow_mut().insert(destination.clone(), Pool { endpoints: Some(pods([1, 2])), ..Pool::default() });
        let seconds = 10;
        for (workers, share) in [(1, REDRAWS_PER_SECOND), (4, REDRAWS_PER_SECOND / 4)] {
            pools.next_redraw.set(None);
            let ticks = (0..seconds * 4).map(|tick| start + Duration::from_millis(250) * tick);
            let count = ticks.map(|now| (0..1000).filter(|_| allowed(workers, now)).count()).sum::<usize>();
            let most = usize::try_from(share * seconds).unwrap();
            assert!((most * 9 / 10..=most).contains(&count), "{workers} workers: {count} of {most}");
        }
    }
}
