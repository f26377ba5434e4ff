//! The open client connections of one worker.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
};

use slab::Slab;
use tokio::time::Instant;

use super::connection::Connection;
use crate::config::limits::{DEADLINE_TICK, EVICTION_BATCH};

/// See above.
#[derive(Default)]
pub(crate) struct Connections {
    open: RefCell<Slab<Weak<Connection>>>,
    /// Those that had been idle longest when all were looked at last, and since when, the longest first: to look at all of them for each newcomer would
    /// make a flood dearer than it is.
    longest_idle: RefCell<VecDeque<(Instant, Weak<Connection>)>>,
    /// Up to when nobody had been idle for long enough, the last time that there was none to be found.
    in_vain: Cell<Option<Instant>>,
}

impl Connections {
    pub(crate) fn vacant_key(&self) -> usize {
        self.open.borrow().vacant_key()
    }

    pub(crate) fn insert(&self, connection: &Rc<Connection>) {
        self.open.borrow_mut().insert(Rc::downgrade(connection));
    }

    pub(crate) fn remove(&self, key: usize) {
        self.open.borrow_mut().try_remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Tells the connection that has been idle longest, and since before `latest`, to close. False if there is none.
    pub(crate) fn evict_longest_idle(&self, latest: Instant) -> bool {
        let longest = self.next_longest_idle().or_else(|| {
            self.find_longest_idle(latest);
            self.next_longest_idle()
        });
        longest.inspect(|longest| longest.leave()).is_some()
    }

    /// The first of those that were found, and are still idle.
    fn next_longest_idle(&self) -> Option<Rc<Connection>> {
        let mut found = self.longest_idle.borrow_mut();
        std::iter::from_fn(|| found.pop_front()).find_map(|(since, connection)| {
            connection.upgrade().filter(|connection| may_leave(connection) && connection.idle_since() == since)
        })
    }

    fn find_longest_idle(&self, latest: Instant) {
        // Nor is it looked for again at once.
        if self.in_vain.get().is_some_and(|before| latest < before + DEADLINE_TICK) {
            return;
        }
        let mut idle = self.all();
        idle.retain(|connection| may_leave(connection) && connection.idle_since() < latest);
        self.in_vain.set(idle.is_empty().then_some(latest));
        idle.sort_unstable_by_key(|connection| connection.idle_since());
        let longest = idle.iter().take(EVICTION_BATCH);
        *self.longest_idle.borrow_mut() = longest.map(|connection| (connection.idle_since(), Rc::downgrade(connection))).collect();
    }

    pub(crate) fn all(&self) -> Vec<Rc<Connection>> {
        self.open.borrow().iter().filter_map(|(_, connection)| connection.upgrade()).collect()
    }
}

fn may_leave(connection: &Connection) -> bool {
    connection.is_idle() && !connection.is_leaving()
}
