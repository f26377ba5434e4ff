//! What every Event should say and what was written of it: the next request is the difference. Neither I/O nor a clock: time is handed in.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    finding::{Finding, Object, by_object},
    queue::Queue,
    request::{How, Outcome, Phase, Request},
};
use crate::{
    config::limits::{
        API_BACKOFF_MIN, EVENT_BACKOFF_MAX, EVENT_BURST, EVENT_COUNT, EVENT_INTERVAL, EVENT_LIFETIME, EVENT_OBJECT_BURST,
        EVENT_OBJECT_INTERVAL, EVENT_REFRESH, EVENT_REFUSED_PAUSE, EVENT_SETTLE, EVENTS_PER_OBJECT, PROGRAMMED_TOLD,
    },
    source::Report,
    waiting::{Bucket, Rate},
};

const OVERALL: Rate = Rate { burst: EVENT_BURST, interval: EVENT_INTERVAL };
const PER_OBJECT: Rate = Rate { burst: EVENT_OBJECT_BURST, interval: EVENT_OBJECT_INTERVAL };

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this, and tell [`Ledger::done`].
    Send(Request),
    /// Nothing before that moment; `None`: before there is news.
    Wait(Option<Instant>),
}

/// The Events of one process's time as the leader.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By the Event's name.
    entries: HashMap<Arc<str>, Entry>,
    /// When each entry is to be looked at, but for the one that a request is under way for.
    queue: Queue,
    overall: Bucket,
    objects: HashMap<Arc<Object>, Bucket>,
    /// Namespaces in which Events are refused, and until when they are left alone.
    refused: HashMap<String, Instant>,
    /// Failures to reach the API server in a row, and until when it is left alone.
    failures: u32,
    paused: Option<Instant>,
    /// Counts calls of [`Ledger::want`].
    pass: u64,
    /// Whether there are findings that [`EVENT_COUNT`] left no room for.
    crowded: bool,
}

#[derive(Debug)]
struct Entry {
    finding: Arc<Finding>,
    wanted: Phase,
    /// What was last written, and when.
    written: Option<(Phase, Instant)>,
    known: Known,
    due: Instant,
    /// The last pass that found it.
    seen: u64,
}

/// What is known about the stored Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The finding is older than this leader, so that another one may have written it.
    Unasked,
    /// There is none: the finding began under this leader, which hasn't written it yet; or it was gone when it was to be changed.
    Nothing,
    Exists,
    Counted(i32),
}

impl Ledger {
    /// Takes note of what is wrong now. Returns whether this is worth a line in the log: [`Ledger::is_crowded`] has changed.
    pub(super) fn want(&mut self, report: &Report, now: Instant) -> bool {
        self.pass += 1;
        let was_crowded = std::mem::take(&mut self.crowded);
        for (object, findings) in by_object(report) {
            let (old, new): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| self.entries.contains_key(&finding.event));
            let room = EVENTS_PER_OBJECT.saturating_sub(old.len());
            let more = (new.len() > room).then(|| Finding::more(&object));
            for finding in old.into_iter().chain(new.into_iter().take(room)).chain(more) {
                self.confirm(finding, now);
            }
        }
        self.retire(report, now);
        self.objects.retain(|_, bucket| !bucket.is_full(now));
        if !self.refused.is_empty() {
            let namespaces: BTreeSet<&str> = self.entries.values().map(|entry| entry.finding.object.event_namespace()).collect();
            self.refused.retain(|namespace, _| namespaces.contains(&**namespace));
        }
        self.crowded != was_crowded
    }

    /// Whether there are more findings than there may be Events: [`Ledger::want`] might do more if it were told the same again.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Events that don't say yet what they should.
    pub(super) fn pending(&self) -> usize {
        self.entries.values().filter(|entry| !entry.is_written()).count()
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if let Some(until) = self.paused.filter(|until| *until > now) {
            return Next::Wait(Some(until));
        }
        let free = self.overall.free_at(OVERALL, now);
        if free > now {
            return Next::Wait(Some(free));
        }
        while let Some(key) = self.queue.take(now) {
            let Some(entry) = self.entries.get(&key) else { continue };
            let Some(how) = entry.how() else {
                self.entries.remove(&key);
                continue;
            };
            let object = &entry.finding.object;
            let bucket = self.objects.entry(Arc::clone(object)).or_default();
            let left_alone = self.refused.get(object.event_namespace()).copied().unwrap_or(now);
            let free = bucket.free_at(PER_OBJECT, now).max(left_alone);
            if free > now {
                self.put_off(&key, free);
                continue;
            }
            bucket.take(PER_OBJECT, now);
            self.overall.take(OVERALL, now);
            return Next::Send(Request { finding: Arc::clone(&entry.finding), phase: entry.wanted, how });
        }
        Next::Wait(self.queue.first())
    }

    /// Takes the room for one more request about an object, which is about no finding. Call it when [`Ledger::next`] has none to send.
    ///
    /// # Errors
    /// There is no room before that moment.
    pub(super) fn spare(&mut self, object: &Arc<Object>, now: Instant) -> Result<(), Instant> {
        // Nobody may have had a finding for long.
        if self.objects.len() >= PROGRAMMED_TOLD {
            self.objects.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = self.objects.entry(Arc::clone(object)).or_default();
        let left_alone = self.refused.get(object.event_namespace()).copied();
        let free = self.overall.free_at(OVERALL, now).max(bucket.free_at(PER_OBJECT, now));
        let free = [left_alone, self.paused].into_iter().flatten().fold(free, Instant::max);
        if free > now {
            return Err(free);
        }
        bucket.take(PER_OBJECT, now);
        self.overall.take(OVERALL, now);
        Ok(())
    }

    /// Takes note of what became of the request that [`Ledger::next`] gave. Returns whether this is worth a line in the log: the first of its
    /// kind, or the end of such trouble.
    pub(super) fn done(&mut self, request: &Request, outcome: &Outcome, now: Instant) -> bool {
        let (key, namespace) = (&request.finding.event, request.finding.object.event_namespace());
        let recovered = *outcome != Outcome::Unreachable && std::mem::take(&mut self.failures) > 0;
        let Some(entry) = self.entries.get_mut(key) else { return recovered };
        let (due, notable) = match outcome {
            Outcome::Stored(count) => {
                (entry.known, entry.written) = (Known::Counted(*count), Some((request.phase, now)));
                let due = match request.phase {
                    Phase::Broken => now + EVENT_REFRESH,
                    Phase::Fixed => now + EVENT_LIFETIME,
                };
                (due, self.refused.remove(namespace).is_some())
            }
            Outcome::Exists => {
                entry.known = Known::Exists;
                (now, false)
            }
            Outcome::Missing => {
                entry.known = Known::Nothing;
                (now, false)
            }
            Outcome::Hopeless => (now + EVENT_REFRESH, true),
            Outcome::Refused => {
                let until = now + EVENT_REFUSED_PAUSE;
                (until, self.refused.insert(namespace.to_owned(), until).is_none())
            }
            Outcome::Unreachable => {
                // Created perhaps all the same.
                if request.how == How::Create {
                    entry.known = Known::Exists;
                }
                let pause = API_BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(EVENT_BACKOFF_MAX);
                self.paused = Some(now + pause);
                self.failures += 1;
                (now, self.failures == 1)
            }
        };
        self.put_off(key, due);
        notable || recovered
    }

    /// A finding that there is.
    fn confirm(&mut self, finding: Finding, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&finding.event) {
            entry.seen = self.pass;
            if entry.wanted == Phase::Fixed {
                entry.wanted = Phase::Broken;
                // Where its end was never told, nobody needs to hear that it goes on.
                let due = entry.written.filter(|(phase, _)| *phase == Phase::Broken).map(|(_, told)| told + EVENT_REFRESH);
                self.put_off(&finding.event, due.unwrap_or(now + EVENT_SETTLE));
            }
        } else if self.entries.len() < EVENT_COUNT {
            let (key, due) = (Arc::clone(&finding.event), now + EVENT_SETTLE);
            // The first report is a whole one: who has no table doesn't lead.
            let known = if self.pass == 1 { Known::Unasked } else { Known::Nothing };
            let entry = Entry { finding: Arc::new(finding), wanted: Phase::Broken, written: None, known, due, seen: self.pass };
            self.entries.insert(Arc::clone(&key), entry);
            self.queue.put(due, key);
        } else {
            self.crowded = true;
        }
    }

    /// Everything that this pass hasn't found: fixed where the object is still there, and an Event of it may be; otherwise nobody is left to be
    /// told. What another leader may have written is told fixed without asking first: where it hasn't, that one request finds nothing.
    fn retire(&mut self, report: &Report, now: Instant) {
        let mut changed: Vec<(Arc<str>, Option<Duration>)> = Vec::new();
        for (key, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.seen != self.pass) {
            let object = &entry.finding.object;
            let exists = report.identities.get(&object.name).is_some_and(|identity| identity.uid == object.uid);
            if !exists || entry.known == Known::Nothing {
                changed.push((Arc::clone(key), None));
            } else if entry.wanted == Phase::Broken {
                entry.wanted = Phase::Fixed;
                changed.push((Arc::clone(key), Some(EVENT_SETTLE)));
            }
        }
        for (key, wait) in changed {
            match wait {
                Some(wait) => self.put_off(&key, now + wait),
                None => {
                    if let Some(entry) = self.entries.remove(&key) {
                        self.queue.remove(entry.due, &key);
                    }
                }
            }
        }
    }

    fn put_off(&mut self, key: &Arc<str>, due: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.queue.remove(entry.due, key);
        entry.due = due;
        self.queue.put(due, Arc::clone(key));
    }
}

impl Entry {
    /// Whether the Event says what it should.
    fn is_written(&self) -> bool {
        self.written.is_some_and(|(phase, _)| phase == self.wanted)
    }

    /// How to write it now that it is due; `None` where there is nothing more to write.
    fn how(&self) -> Option<How> {
        match (self.wanted, self.known) {
            (Phase::Broken, Known::Unasked | Known::Nothing) => Some(How::Create),
            // Its Event is gone before it could be told, or never was.
            (Phase::Fixed, Known::Nothing) => None,
            (Phase::Fixed, Known::Unasked) | (_, Known::Exists) => Some(How::Adopt),
            (_, Known::Counted(_)) if !self.is_written() => Some(How::Turn),
            (Phase::Broken, Known::Counted(count)) => Some(How::Repeat { count: count.saturating_add(1) }),
            // Told an [`EVENT_LIFETIME`] ago.
            (Phase::Fixed, Known::Counted(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests;
