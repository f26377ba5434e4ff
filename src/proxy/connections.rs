//! The open client connections of one worker.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use slab::Slab;
use tokio::time::Instant;

use super::connection::Connection;

/// See above.
#[derive(Default)]
pub(crate) struct Connections(RefCell<Slab<Weak<Connection>>>);

impl Connections {
    pub(crate) fn vacant_key(&self) -> usize {
        self.0.borrow().vacant_key()
    }

    pub(crate) fn insert(&self, connection: &Rc<Connection>) {
        self.0.borrow_mut().insert(Rc::downgrade(connection));
    }

    pub(crate) fn remove(&self, key: usize) {
        self.0.borrow_mut().try_remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Tells the connection that has been idle longest, and since before `latest`, to close. False if there is none.
    pub(crate) fn evict_longest_idle(&self, latest: Instant) -> bool {
        let mut idle = self.all();
        idle.retain(|connection| connection.is_idle() && !connection.is_leaving() && connection.idle_since() < latest);
        let idle = idle.into_iter();
        let Some(longest) = idle.min_by_key(|connection| connection.idle_since()) else { return false };
        longest.leave();
        true
    }

    pub(crate) fn all(&self) -> Vec<Rc<Connection>> {
        self.0.borrow().iter().filter_map(|(_, connection)| connection.upgrade()).collect()
    }
}
