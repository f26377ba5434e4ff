//! What a source and the rebuild loop share: the stores behind a lock, and the one coalescing "dirty" mark.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::Notify, time::Instant};

use crate::{
    compile::{Diagnostic, Objects},
    source::{
        object::Key,
        stores::{Change, Stores},
    },
};

/// The stores and the dirty mark. The lock is held for as long as it takes to copy references, never across an await.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    dirty: Notify,
}

#[derive(Debug)]
struct State {
    stores: Stores,
    /// What is wrong with the source itself, such as a file that can't be read.
    findings: Vec<Diagnostic>,
    /// The first event that no rebuild has seen.
    since: Option<Instant>,
}

/// What there is to rebuild.
#[derive(Debug)]
pub(super) struct Work {
    /// The objects in force.
    pub objects: Objects,
    /// What the source and the stores found wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// The uids of objects whose newest version isn't in force.
    pub held: Vec<(Key, Arc<str>)>,
    /// When the first of the events arrived that led here.
    pub since: Instant,
}

impl Shared {
    /// Nothing has happened yet.
    pub(super) fn new(stores: Stores) -> Self {
        Self { state: Mutex::new(State { stores, findings: Vec::new(), since: None }), dirty: Notify::new() }
    }

    /// Takes note of changes and sets the dirty mark, even where nothing seems to have changed: a deletion during a disconnect shows only as
    /// the end of a list. `findings` replaces what was wrong with the source itself; `since` is when the first raw event behind all of this
    /// arrived.
    pub(super) fn apply(&self, changes: impl IntoIterator<Item = Change>, findings: Option<Vec<Diagnostic>>, since: Instant) {
        let mut state = self.lock();
        // Until the lists are complete nothing could have become live, so the wait for them isn't counted.
        let was_complete = state.stores.complete();
        for change in changes {
            state.stores.apply(change);
        }
        if let Some(findings) = findings {
            state.findings = findings;
        }
        state.since = if was_complete { state.since.or(Some(since)) } else { Some(Instant::now()) };
        drop(state);
        self.dirty.notify_one();
    }

    /// Waits for the dirty mark, and takes it off.
    pub(super) async fn dirty(&self) {
        self.dirty.notified().await;
    }

    /// What there is to rebuild; nothing before the stores are complete.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.lock();
        if !state.stores.complete() {
            return None;
        }
        let since = state.since.take().unwrap_or_else(Instant::now);
        let diagnostics = state.findings.iter().chain(state.stores.diagnostics()).cloned().collect();
        let held = state.stores.held().map(|(key, uid)| (key.clone(), Arc::clone(uid))).collect();
        Some(Work { objects: state.stores.objects(), diagnostics, held, since })
    }

    /// A thread that panicked while it held the lock left whole objects behind: every write replaces entries one by one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
