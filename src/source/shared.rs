//! What a source and the rebuild loop share: the stores behind a lock, and the one coalescing "dirty" mark.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::networking::v1::Ingress;
use tokio::{sync::Notify, time::Instant};

use crate::{
    compile::{Delta, Diagnostic, Edit},
    source::{
        object::Key,
        stores::{Change, Effect, Stores},
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
    /// The first event that no rebuild has seen, of those that the table may depend on.
    since: Option<Instant>,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Work {
    /// A table is to be made.
    Rebuild(Inputs),
    /// The table is what it was; these Ingresses have another status.
    Refresh(Vec<Edit<Ingress>>),
}

/// What a table is made of.
#[derive(Debug)]
pub(super) struct Inputs {
    /// What has become of the objects in force since the last time.
    pub delta: Delta,
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
    /// the end of a list. Changes of nothing but a status leave the table alone. `findings` replaces what was wrong with the source itself; `since` is
    /// when the first raw event behind all of this arrived.
    pub(super) fn apply(&self, changes: impl IntoIterator<Item = Change>, findings: Option<Vec<Diagnostic>>, since: Instant) {
        let mut state = self.lock();
        // Until the lists are complete nothing could have become live, so the wait for them isn't counted.
        let was_complete = state.stores.complete();
        let mut effect = Effect::Status;
        let mut changes = changes.into_iter().peekable();
        if findings.is_some() || changes.peek().is_none() {
            effect = Effect::Table;
        }
        for change in changes {
            effect = effect.max(state.stores.apply(change));
        }
        if let Some(findings) = findings {
            state.findings = findings;
        }
        if !was_complete {
            state.since = Some(Instant::now());
        } else if effect == Effect::Table {
            state.since = state.since.or(Some(since));
        }
        drop(state);
        self.dirty.notify_one();
    }

    /// Waits for the dirty mark, and takes it off.
    pub(super) async fn dirty(&self) {
        self.dirty.notified().await;
    }

    /// What there is to do; nothing before the stores are complete.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.lock();
        if !state.stores.complete() {
            return None;
        }
        let delta = state.stores.delta();
        let Some(since) = state.since.take() else { return Some(Work::Refresh(delta.ingresses)) };
        let diagnostics = state.findings.iter().chain(state.stores.diagnostics()).cloned().collect();
        let held = state.stores.held().map(|(key, uid)| (key.clone(), Arc::clone(uid))).collect();
        Some(Work::Rebuild(Inputs { delta, diagnostics, held, since }))
    }

    /// A thread that panicked while it held the lock left whole objects behind: every write replaces entries one by one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
