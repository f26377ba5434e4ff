//! A worker's idle backend connections. The oldest idle one is reused first, so that load goes round; pods that go away retire those that were
//! opened while they were there, since nobody but kube-proxy knows which connection leads to which pod.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::{
    super::worker::Worker,
    dial::{Lease, Link},
};
use crate::config::limits::{Limits, POOL_IDLE_PER_WORKER};

/// The pools of one worker, by address.
#[derive(Default)]
pub(crate) struct Pools {
    by_address: RefCell<HashMap<SocketAddr, Pool, RandomState>>,
    open: Cell<usize>,
    idle: Cell<usize>,
}

#[derive(Default)]
struct Pool {
    idle: VecDeque<Idle>,
    /// Connections to this address that exist, idle ones and those being dialled included.
    open: usize,
    warming: bool,
    /// Grows whenever a pod has gone away.
    epoch: u64,
    endpoints: Option<Arc<[SocketAddr]>>,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// A connection that exists, in the books of its pool until it is dropped.
pub(crate) struct Open {
    worker: Rc<Worker>,
    address: SocketAddr,
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
        if let Some(pool) = pools.by_address.borrow_mut().get_mut(&self.address) {
            pool.open -= 1;
        }
    }
}

impl Pools {
    /// An idle connection to `address`. `endpoints` are the pods behind it now, where that is known.
    pub(super) fn take(&self, worker: &Rc<Worker>, address: SocketAddr, endpoints: Option<&Arc<[SocketAddr]>>) -> Option<Lease> {
        let now = worker.deadlines.now();
        let mut retired = Vec::new();
        let mut pools = self.by_address.borrow_mut();
        // The pods are remembered from the first request on, so that the second can tell whether one has gone since.
        let pool = if endpoints.is_some() { pools.entry(address).or_default() } else { pools.get_mut(&address)? };
        pool.heed(endpoints);
        let mut found = None;
        for _ in 0..pool.idle.len() {
            let Some(idle) = pool.idle.pop_front() else { break };
            if idle.link.is_usable(now, pool.epoch) && now < idle.since + worker.settings.limits.pool_idle_timeout {
                found = Some(idle.link);
                break;
            }
            if idle.link.is_closed() || !idle.link.is_current(now, pool.epoch) {
                retired.push(idle);
            } else {
                // Not quite done with its last response.
                pool.idle.push_back(idle);
            }
        }
        drop(pools);
        self.idle.set(self.idle.get() - retired.len() - usize::from(found.is_some()));
        found.map(|link| Lease::new(link, worker, true))
    }

    /// Keeps an idle connection, unless it is too old or there are enough.
    pub(super) fn put(&self, link: Link, limits: &Limits, now: Instant) {
        let mut pools = self.by_address.borrow_mut();
        let Some(pool) = pools.get_mut(&link.address) else { return };
        let full = pool.idle.len() >= limits.pool_idle_per_backend || self.idle.get() >= POOL_IDLE_PER_WORKER;
        if full || link.is_closed() || !link.is_current(now, pool.epoch) {
            drop(pools);
            return;
        }
        pool.idle.push_back(Idle { link, since: now });
        self.idle.set(self.idle.get() + 1);
    }

    /// Enters a connection that is about to be dialled.
    pub(super) fn opening(&self, worker: &Rc<Worker>, address: SocketAddr) -> Open {
        let mut pools = self.by_address.borrow_mut();
        let pool = pools.entry(address).or_default();
        pool.open += 1;
        self.open.set(self.open.get() + 1);
        Open { worker: Rc::clone(worker), address, epoch: pool.epoch }
    }

    /// A connection from the pool turned out to be dead: those that were opened with it are as good as dead.
    pub(super) fn distrust(&self, address: SocketAddr) {
        if let Some(pool) = self.by_address.borrow_mut().get_mut(&address) {
            pool.epoch += 1;
        }
    }

    /// Whether one more connection should be opened in the background: there are fewer than `wanted`, and none is on its way.
    pub(super) fn begin_warming(&self, address: SocketAddr, wanted: usize) -> bool {
        let mut pools = self.by_address.borrow_mut();
        let Some(pool) = pools.get_mut(&address) else { return false };
        let begin = !pool.warming && pool.open < wanted;
        pool.warming |= begin;
        begin
    }

    pub(super) fn end_warming(&self, address: SocketAddr) {
        if let Some(pool) = self.by_address.borrow_mut().get_mut(&address) {
            pool.warming = false;
        }
    }

    /// Connections to `address` that carry a request now.
    pub(super) fn in_use(&self, address: SocketAddr) -> usize {
        self.by_address.borrow().get(&address).map_or(0, |pool| pool.open.saturating_sub(pool.idle.len()))
    }

    /// Connections that exist.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Connections that are idle.
    pub(crate) fn idle(&self) -> usize {
        self.idle.get()
    }

    /// Closes one idle connection to make room for another. False: there is none.
    pub(crate) fn evict_idle(&self) -> bool {
        let mut pools = self.by_address.borrow_mut();
        let evicted = pools.values_mut().find_map(|pool| pool.idle.pop_front());
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
        self.by_address.borrow_mut().retain(|_, pool| {
            let epoch = pool.epoch;
            let keeps =
                |idle: &Idle| !idle.link.is_closed() && idle.link.is_current(now, epoch) && now < idle.since + limits.pool_idle_timeout;
            if !pool.idle.iter().all(keeps) {
                let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut pool.idle).into_iter().partition(keeps);
                pool.idle = kept.into();
                retired.extend(gone);
            }
            idle += pool.idle.len();
            pool.open > 0
        });
        self.idle.set(idle);
    }
}

impl Pool {
    /// Compares the pods behind the address with those of the last time: connections may lead to one that went away.
    fn heed(&mut self, endpoints: Option<&Arc<[SocketAddr]>>) {
        let (Some(new), old) = (endpoints, &self.endpoints) else { return };
        let Some(old) = old else {
            self.endpoints = Some(Arc::clone(new));
            return;
        };
        if Arc::ptr_eq(old, new) {
            return;
        }
        if old.iter().any(|pod| !new.contains(pod)) {
            self.epoch += 1;
        }
        self.endpoints = Some(Arc::clone(new));
    }
}
