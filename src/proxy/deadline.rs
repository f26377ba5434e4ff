//! One coarse clock for all deadlines of a worker: a sweep every `DEADLINE_TICK` instead of a timer for each request. Arming and disarming are two
//! stores to memory, and a deadline is never early, at most one tick late.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use slab::Slab;
use tokio::time::Instant;

use crate::config::limits::DEADLINE_TICK;

/// All deadlines of one worker.
#[derive(Debug)]
pub(crate) struct Deadlines {
    now: Cell<Instant>,
    /// The wall clock at `now`.
    wall: Cell<SystemTime>,
    entries: RefCell<Slab<Rc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    at: Cell<Option<Instant>>,
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// One deadline: made once for a connection, armed and disarmed many times.
#[derive(Debug)]
pub(crate) struct Deadline {
    entry: Rc<Entry>,
    key: usize,
    owner: Rc<Deadlines>,
}

impl Deadlines {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { now: Cell::new(Instant::now()), wall: Cell::new(SystemTime::now()), entries: RefCell::default() })
    }

    /// The time of the last sweep: good enough for anything measured in seconds.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// The wall clock at a moment after the last sweep, without asking for it again.
    pub(crate) fn wall_clock(&self, at: Instant) -> SystemTime {
        self.wall.get() + at.saturating_duration_since(self.now.get())
    }

    pub(crate) fn register(self: &Rc<Self>) -> Deadline {
        let entry = Rc::new(Entry { at: Cell::new(None), fired: Cell::new(false), waker: RefCell::new(None) });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Deadline { entry, key, owner: Rc::clone(self) }
    }

    /// Fires every deadline that has passed. Called by the worker every [`DEADLINE_TICK`].
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.now.set(now);
        self.wall.set(SystemTime::now());
        for (_, entry) in self.entries.borrow().iter() {
            if entry.at.get().is_some_and(|at| at <= now) {
                entry.at.set(None);
                entry.fired.set(true);
                if let Some(waker) = entry.waker.borrow().as_ref() {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

impl Deadline {
    /// Sets the deadline to `after` from now, in place of whatever was set.
    pub(crate) fn arm(&self, after: Duration) {
        self.entry.fired.set(false);
        // The clock may be one tick behind.
        self.entry.at.set(self.owner.now().checked_add(after + DEADLINE_TICK));
    }

    /// As [`Self::arm`], unless it is armed already or has fired.
    pub(crate) fn arm_once(&self, after: Duration) {
        if self.entry.at.get().is_none() && !self.entry.fired.get() {
            self.arm(after);
        }
    }

    pub(crate) fn disarm(&self) {
        self.entry.at.set(None);
        self.entry.fired.set(false);
    }

    /// Ready once the deadline has passed; until it is armed or disarmed again, it stays so. Wakes the task that polled last.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.entry.fired.get() {
            return Poll::Ready(());
        }
        self.wakes(cx.waker());
        Poll::Pending
    }

    /// Names the task to wake when the deadline passes, for one that polls only then.
    pub(crate) fn wakes(&self, waker: &Waker) {
        let mut known = self.entry.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.owner.entries.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn sweep_until_fired(deadlines: &Deadlines, deadline: &Deadline) -> Duration {
        let start = Instant::now();
        let mut tick = tokio::time::interval(DEADLINE_TICK);
        loop {
            tokio::select! {
                biased;
                () = poll_fn(|cx| deadline.poll(cx)) => return start.elapsed(),
                _ = tick.tick() => deadlines.sweep(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_fires_never_early_and_at_most_two_ticks_late() {
        let deadlines = Deadlines::new();
        let deadline = deadlines.register();
        deadline.arm(Duration::from_secs(1));
        let took = sweep_until_fired(&deadlines, &deadline).await;
        assert!(took >= Duration::from_secs(1) && took <= Duration::from_secs(1) + 2 * DEADLINE_TICK, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn arming_again_moves_a_deadline_and_disarming_lifts_it() {
        let deadlines = Deadlines::new();
        let (moved, lifted) = (deadlines.register(), deadlines.register());
        moved.arm(Duration::from_secs(1));
        lifted.arm(Duration::from_secs(1));
        lifted.disarm();
        moved.arm_once(Duration::from_secs(9));
        moved.arm(Duration::from_secs(2));
        let took = sweep_until_fired(&deadlines, &moved).await;
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(poll_fn(|cx| Poll::Ready(lifted.poll(cx))).await.is_pending());
    }

    #[test]
    fn a_dropped_deadline_leaves_nothing_behind() {
        let deadlines = Deadlines::new();
        drop(deadlines.register());
        assert!(deadlines.entries.borrow().is_empty());
    }
}
