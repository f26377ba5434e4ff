//! What a source and the rebuild loop share: the stores behind a lock, and the one coalescing "dirty" mark.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use k8s_openapi::api::networking::v1::Ingress;
use tokio::{sync::Notify, time::Instant};

use crate::{
    compile::{Delta, Diagnostic, Edit},
    source::{
        Coverage,
        object::{Key, Object},
        stores::{Change, Effect, List, Stores},
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
    /// How far the stores have taken in what the source says.
    coverage: Coverage,
    /// What was in force before, from disk, until the stores are complete.
    restored: Option<Restored>,
    /// Lists that the source has refused last.
    refused: HashSet<List>,
    /// What is wrong with the source itself, such as a file that can't be read.
    findings: Vec<Diagnostic>,
    /// The first event that no rebuild has seen, of those that the table may depend on.
    since: Option<Instant>,
}

/// What a process before this one has left.
#[derive(Debug)]
struct Restored {
    stores: Stores,
    /// When it was written.
    written: SystemTime,
    /// It is served.
    in_force: bool,
}

/// What has come of [`Shared::fall_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FallBack {
    /// They are served, of this age.
    InForce(SystemTime),
    /// The stores are complete.
    Needless,
    /// The source answers, and refuses: whoever has to mend that must hear of it, and isn't helped by what was once.
    Refused,
    /// There are none.
    Nothing,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Work {
    /// A table is to be made.
    Rebuild(Inputs),
    /// The table is what it was; these Ingresses have another status.
    Refresh(Vec<Edit<Ingress>>, Coverage),
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
    /// How far all of this is what the source says; empty where it comes from disk.
    pub coverage: Coverage,
    /// When the first of the events arrived that led here.
    pub since: Instant,
    /// When the objects were written to disk, if that is where they come from.
    pub restored: Option<SystemTime>,
}

impl Shared {
    /// Nothing has happened yet.
    pub(super) fn new(stores: Stores) -> Self {
        Self {
            state: Mutex::new(State {
                stores,
                coverage: Coverage::default(),
                restored: None,
                refused: HashSet::new(),
                findings: Vec::new(),
                since: None,
            }),
            dirty: Notify::new(),
        }
    }

    /// Has these stand by, in the place of stores that aren't complete in time ([`Shared::fall_back`]), and for objects whose newest version is no good.
    pub(super) fn restore(&self, stores: Stores, written: SystemTime) {
        let mut state = self.lock();
        state.restored = Some(Restored { stores, written, in_force: false });
        if state.stores.complete() {
            // They came first.
            state.since = state.since.or(Some(Instant::now()));
            drop(state);
            self.dirty.notify_one();
        }
    }

    /// Brings those into force, where the stores aren't complete because nobody answers.
    pub(super) fn fall_back(&self) -> FallBack {
        let mut state = self.lock();
        if state.stores.complete() {
            return FallBack::Needless;
        }
        if !state.refused.is_empty() {
            return FallBack::Refused;
        }
        let Some(restored) = &mut state.restored else { return FallBack::Nothing };
        restored.in_force = true;
        let written = restored.written;
        state.since = Some(Instant::now());
        drop(state);
        self.dirty.notify_one();
        FallBack::InForce(written)
    }

    /// Takes note of whether a list is refused by whom it was asked of. One that is complete isn't.
    pub(super) fn set_refused(&self, list: &List, refused: bool) {
        let mut state = self.lock();
        if refused {
            state.refused.insert(list.clone());
        } else {
            state.refused.remove(list);
        }
    }

    /// Replaces what was wrong with the source itself.
    pub(super) fn find(&self, findings: Vec<Diagnostic>) {
        self.apply([], Some(findings), Instant::now());
    }

    /// The objects that a table is made of; nothing before the stores are complete.
    pub(super) fn in_force(&self) -> Vec<Object> {
        let state = self.lock();
        if state.stores.complete() { state.stores.each().cloned().collect() } else { Vec::new() }
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
            state.coverage.take(&change);
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

    /// What there is to do; nothing before the stores are complete, or others are in their place.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.lock();
        let State { stores, coverage, restored, refused: _, findings, since } = &mut *state;
        let mut earlier = Vec::new();
        if stores.complete()
            && let Some(Restored { stores: before, .. }) = restored.take()
        {
            earlier = stores.succeed(before);
        }
        let (stores, restored) = match restored {
            Some(Restored { stores, written, in_force: true }) => (stores, Some(*written)),
            _ if stores.complete() => (stores, None),
            _ => return None,
        };
        let delta = Delta { earlier, ..stores.delta() };
        let coverage = if restored.is_none() { coverage.clone() } else { Coverage::default() };
        let Some(since) = since.take() else { return Some(Work::Refresh(delta.ingresses, coverage)) };
        let diagnostics = findings.iter().chain(stores.diagnostics()).cloned().collect();
        let held = stores.held().map(|(key, uid)| (key.clone(), Arc::clone(uid))).collect();
        Some(Work::Rebuild(Inputs { delta, diagnostics, held, coverage, since, restored }))
    }

    /// A thread that panicked while it held the lock left whole objects behind: every write replaces entries one by one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
