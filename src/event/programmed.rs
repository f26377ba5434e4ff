//! Which edits of Ingresses are still to be told in force, and which are. Neither I/O nor a clock: time is handed in.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::networking::v1::Ingress;
use tokio::time::Instant;

use super::{
    finding::{Object, event_name},
    request::{How, Outcome, Words},
};
use crate::{
    compile::Same,
    config::limits::{PROGRAMMED_PATIENCE, PROGRAMMED_PENDING, PROGRAMMED_POLL, PROGRAMMED_TOLD, PROGRAMMED_TRIES},
    convergence::{Progress, Target},
    source::{ObjectName, Served, version_number},
};

/// What the Event's reason is, and what its name is made of.
const REASON: &str = "Programmed";

/// Edits that came while this process led.
#[derive(Debug, Default)]
pub(super) struct Programmed {
    /// The Ingresses that the last report had; nothing before the first, whose versions are nobody's news.
    before: Option<Arc<[Served]>>,
    /// By uid: the newest edit of each. At most [`PROGRAMMED_PENDING`].
    pending: BTreeMap<Arc<str>, Edit>,
    /// How often each Event has told something, by its name, as far as that is known. At most [`PROGRAMMED_TOLD`].
    told: HashMap<Arc<str>, Told>,
    /// When to look where they have come.
    look_at: Option<Instant>,
    /// Looks in a row that failed.
    failures: u32,
}

/// A version of an Ingress that makes another table than the one before.
#[derive(Debug)]
struct Edit {
    target: Target,
    object: Arc<Object>,
    since: Instant,
    /// On how many nodes it is in force; nothing while it isn't on all of them.
    nodes: Option<usize>,
    /// Nothing is written of it before.
    not_before: Instant,
    tries: u32,
}

/// What is known of a stored Event.
#[derive(Debug, Clone, Copy)]
enum Told {
    Exists,
    Times(i32),
}

/// An Event to write.
#[derive(Debug)]
pub(super) struct Notice {
    /// The Event's name: the same for all edits of an object.
    pub event: Arc<str>,
    /// What it is about.
    pub object: Arc<Object>,
    version: String,
    message: String,
    how: How,
}

impl Notice {
    /// What it says.
    pub(super) fn words(&self) -> Words<'_> {
        let Self { event, object, version, message, how } = self;
        Words { event, object, field: "", kind: "Normal", reason: REASON, message, version: Some(version), how: *how }
    }
}

impl Programmed {
    /// Takes note of the Ingresses in force, and of those whose newest version isn't.
    pub(super) fn note(&mut self, ingresses: &Arc<[Served]>, held: &[ObjectName], now: Instant) {
        let Some(before) = self.before.replace(Arc::clone(ingresses)) else { return };
        if !Arc::ptr_eq(&before, ingresses) {
            for served in edited(&before, ingresses) {
                self.enter(served, now);
            }
            if !self.pending.is_empty() {
                let uid = |served: &Served| served.object.metadata.uid.clone().filter(|_| served.accepted);
                let ours: HashSet<String> = ingresses.iter().filter_map(uid).collect();
                self.pending.retain(|uid, _| ours.contains(&**uid));
            }
        }
        self.pending.retain(|_, edit| held.binary_search(&edit.object.name).is_err());
        self.schedule(now);
    }

    /// When to look how far they have come; nothing while none is pending.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Takes note of how far each has come: nothing where that couldn't be read. Returns whether that is worth a line in the log: it is the first failure, or
    /// the end of them.
    pub(super) fn looked(&mut self, progress: Option<&impl Fn(&Target) -> Progress>, now: Instant) -> bool {
        let failures = std::mem::take(&mut self.failures);
        match progress {
            Some(progress) => {
                for edit in self.pending.values_mut().filter(|edit| edit.nodes.is_none()) {
                    let progress = progress(&edit.target);
                    edit.nodes = progress.is_complete().then_some(progress.nodes);
                }
            }
            None => self.failures = failures.saturating_add(1),
        }
        self.pending.retain(|_, edit| edit.nodes.is_some() || now.saturating_duration_since(edit.since) < PROGRAMMED_PATIENCE);
        self.look_at = None;
        self.schedule(now);
        if progress.is_some() { failures > 0 } else { failures == 0 }
    }

    /// The next Event to write, if there is one, and when it may be at the earliest.
    pub(super) fn next(&self) -> Option<(Notice, Instant)> {
        let ready = self.pending.values().filter_map(|edit| Some((edit, edit.nodes?)));
        let (edit, nodes) = ready.min_by_key(|(edit, _)| edit.not_before)?;
        let event = event_name(&edit.object.name.name, &[&edit.object.uid, REASON]);
        let how = match self.told.get(&event) {
            None => How::Create,
            Some(Told::Exists) => How::Adopt,
            Some(Told::Times(count)) => How::Repeat { count: count.saturating_add(1) },
        };
        let (object, version) = (Arc::clone(&edit.object), edit.target.version.to_string());
        Some((Notice { event, object, version, message: format!("in force on {nodes}/{nodes} nodes"), how }, edit.not_before))
    }

    /// It can't be written before.
    pub(super) fn put_off(&mut self, notice: &Notice, until: Instant) {
        if let Some(edit) = self.pending.get_mut(&notice.object.uid) {
            edit.not_before = until;
        }
    }

    /// Takes note of what became of it. What can't be written is given up after some tries: nobody misses it.
    pub(super) fn done(&mut self, notice: &Notice, outcome: &Outcome, now: Instant) {
        let (uid, event) = (&notice.object.uid, &notice.event);
        if self.told.len() >= PROGRAMMED_TOLD && !self.told.contains_key(event) {
            // Whoever isn't known is asked for.
            self.told.clear();
        }
        match outcome {
            Outcome::Stored(count) => {
                self.told.insert(Arc::clone(event), Told::Times(*count));
                self.pending.remove(uid);
            }
            Outcome::Exists => {
                self.told.insert(Arc::clone(event), Told::Exists);
            }
            Outcome::Missing => {
                self.told.remove(event);
            }
            Outcome::Hopeless | Outcome::Refused => {
                self.pending.remove(uid);
            }
            Outcome::Unreachable => {
                // Created perhaps all the same.
                if notice.how == How::Create {
                    self.told.insert(Arc::clone(event), Told::Exists);
                }
                if let Some(edit) = self.pending.get_mut(uid) {
                    edit.tries += 1;
                    edit.not_before = now + PROGRAMMED_POLL * (1 << edit.tries.min(16));
                    if edit.tries >= PROGRAMMED_TRIES {
                        self.pending.remove(uid);
                    }
                }
            }
        }
    }

    /// The newest version of one of ours.
    fn enter(&mut self, served: &Served, now: Instant) {
        let metadata = &served.object.metadata;
        let (Some(uid), Some(namespace), Some(name)) = (&metadata.uid, &metadata.namespace, &metadata.name) else { return };
        let Some(version) = metadata.resource_version.as_deref().and_then(version_number) else { return };
        let uid: Arc<str> = uid.as_str().into();
        if self.pending.len() >= PROGRAMMED_PENDING && !self.pending.contains_key(&uid) {
            return;
        }
        let object = ObjectName { kind: "Ingress", namespace: namespace.as_str().into(), name: name.as_str().into() };
        let object = Arc::new(Object { name: object, api_version: "networking.k8s.io/v1", uid: Arc::clone(&uid) });
        let target = Target { namespace: namespace.clone(), name: name.clone(), version };
        self.pending.insert(uid, Edit { target, object, since: now, nodes: None, not_before: now, tries: 0 });
    }

    /// The next look: soon after an edit, more rarely the longer the youngest has been on its way.
    fn schedule(&mut self, now: Instant) {
        let ages = self.pending.values().filter(|edit| edit.nodes.is_none()).map(|edit| now.saturating_duration_since(edit.since));
        let pause = |youngest: Duration| PROGRAMMED_POLL.max(youngest / 10).saturating_mul(1 << self.failures.min(5));
        let next = ages.min().map(|youngest| now + pause(youngest));
        self.look_at = next.map(|next| self.look_at.map_or(next, |before| before.min(next)));
    }
}

/// Those of ours in `now` that weren't in `before`, or that were there in a version of which another table was made.
fn edited<'a>(before: &'a [Served], now: &'a [Served]) -> Vec<&'a Served> {
    let is_other = |before: &Ingress, now: &Ingress| before.metadata.uid != now.metadata.uid;
    // One that was stored earlier may come into force later.
    let is_edit =
        |before: &Served, now: &Served| !Arc::ptr_eq(before.in_force(), now.in_force()) && !before.in_force().same(now.in_force());
    // Usually they are the same Ingresses, in the same order.
    if before.len() == now.len() && before.iter().zip(now).all(|(before, now)| !is_other(&before.object, &now.object)) {
        let edits = before.iter().zip(now).filter(|(before, now)| now.accepted && is_edit(before, now));
        return edits.map(|(_, now)| now).collect();
    }
    let known: HashMap<Option<&str>, &Served> = before.iter().map(|served| (served.object.metadata.uid.as_deref(), served)).collect();
    let was = |served: &Served| known.get(&served.object.metadata.uid.as_deref()).copied();
    now.iter().filter(|served| served.accepted && was(served).is_none_or(|before| is_edit(before, served))).collect()
}

#[cfg(test)]
mod tests;
