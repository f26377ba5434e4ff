//! Learns from the kernel (inotify) that something happened in a directory, and when a burst of such events is over.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, mem,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

use super::interest::{Change, Interest};

use crate::{
    compile::{Diagnostic, Severity, Subject},
    config::limits::{MANIFEST_NAMED, REBUILD_CEILING, REBUILD_DEBOUNCE},
};

/// The watched directories.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` where the kernel has no more inotify instances: polling alone then.
    watcher: Option<RecommendedWatcher>,
    signal: Arc<Signal>,
    /// With device and inode, since a directory that was replaced by another of the same name has to be watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Why changes may be noticed late, if they may.
    fault: Option<String>,
}

#[derive(Debug, Default)]
struct Signal {
    pending: Mutex<Pending>,
    happened: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    /// Everything else is ignored: a busy log beside a manifest makes thousands of events a second.
    interest: Interest,
    /// The events that nobody has asked for yet.
    burst: Option<Burst>,
    /// Files that were written to and not closed since: a writer is in the middle of them.
    writing: HashSet<PathBuf>,
}

/// Events that came close together.
#[derive(Debug)]
pub(super) struct Burst {
    /// When the first one came.
    pub since: Instant,
    last: Instant,
    /// How many there were, those that concern nothing left out.
    pub events: u64,
    /// The entries of walked directories that all of them were about, by their real paths. `None` where it may have been anything.
    pub named: Option<BTreeSet<PathBuf>>,
}

impl Burst {
    fn none() -> Self {
        let now = Instant::now();
        Self { since: now, last: now, events: 0, named: None }
    }

    /// Adds an event, and what it was about.
    fn add(&mut self, named: Option<Vec<PathBuf>>) {
        self.last = Instant::now();
        let all = if self.events == 0 { Some(BTreeSet::new()) } else { self.named.take() };
        let together = all.zip(named).map(|(mut all, named)| {
            all.extend(named);
            all
        });
        self.named = together.filter(|all| all.len() <= MANIFEST_NAMED);
        self.events += 1;
    }
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let signal = Arc::new(Signal::default());
        let receiver = Arc::clone(&signal);
        let watcher = notify::recommended_watcher(move |event| receiver.note(event));
        let (watcher, fault) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { watcher, signal, watched: BTreeMap::new(), fault }
    }

    /// Watches for what this interest names and nothing else. Returns whether something is new in it, so that it has to be looked at once more.
    pub(super) fn follow(&mut self, interest: &Interest) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let directories = interest.directories();
        // First, since events of what is watched from here on are judged by it.
        let before = mem::replace(&mut self.signal.lock().interest, interest.clone());
        let mut added = !before.covers(interest);
        self.fault = None;
        let gone: Vec<PathBuf> = self.watched.keys().filter(|path| !directories.contains(*path)).cloned().collect();
        for path in gone {
            self.watched.remove(&path);
            // It fails where the directory is gone, and the kernel has dropped the watch already.
            let _ = watcher.unwatch(&path);
        }
        for path in directories {
            let Ok(metadata) = fs::metadata(path) else { continue };
            let identity = (metadata.dev(), metadata.ino());
            if self.watched.get(path) == Some(&identity) {
                continue;
            }
            if self.watched.remove(path).is_some() {
                let _ = watcher.unwatch(path);
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), identity);
                    added = true;
                }
                Err(error) => self.fault = Some(format!("{}: {error}", path.display())),
            }
        }
        added
    }

    /// What to tell the user if changes may be noticed late.
    pub(super) fn fault(&self) -> Option<Diagnostic> {
        let fault = self.fault.as_ref()?;
        Some(Diagnostic {
            severity: Severity::Warning,
            code: "watch_failed",
            subject: Subject::File { path: "--manifests".into(), document: 0, line: 0 },
            message: format!("the kernel doesn't report changes ({fault}), so they are noticed seconds late"),
            help: "raise the sysctls fs.inotify.max_user_watches and fs.inotify.max_user_instances".into(),
        })
    }

    /// Waits until a burst of events is over and nobody is in the middle of writing, but no longer than the ceiling after it was noticed, and not
    /// less than until `earliest`; or until `deadline`, if nothing happens. However many events a burst has, it
    /// wakes this task once in each quiet time.
    pub(super) async fn changed(&self, earliest: Instant, deadline: Instant) -> Burst {
        while self.signal.lock().burst.is_none() {
            if timeout_at(deadline, self.signal.happened.notified()).await.is_err() {
                return Burst::none();
            }
        }
        let ceiling = earliest.max(Instant::now() + REBUILD_CEILING);
        loop {
            let (quiet, writing) = self.signal.state();
            let quiet = quiet.max(earliest).min(ceiling);
            let now = Instant::now();
            if now < quiet {
                sleep_until(quiet).await;
            } else if writing && now < ceiling {
                // A timeout is seen at the top.
                let _ = timeout_at(ceiling, self.signal.happened.notified()).await;
            } else {
                return self.signal.take();
            }
        }
    }
}

impl Signal {
    fn note(&self, event: notify::Result<Event>) {
        // An error says that events may have been lost, so it counts as one.
        let (kind, paths) = event.map_or((EventKind::Any, Vec::new()), |event| (event.kind, event.paths));
        let change = match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => {
                Change::Other
            }
            EventKind::Access(_) => return,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Change::Other,
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => Change::Appeared,
        };
        let mut pending = self.lock();
        // A rename from one name to another may concern us by one of them.
        let ours: Vec<PathBuf> = paths.iter().filter(|path| pending.interest.concerns(path, change)).cloned().collect();
        if !paths.is_empty() && ours.is_empty() {
            return;
        }
        let alone = !ours.is_empty() && ours.iter().all(|path| pending.interest.is_mere_entry(path));
        let named = alone.then_some(ours);
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => pending.writing.extend(paths),
            EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Create(_) | EventKind::Any | EventKind::Other => {}
            EventKind::Access(_) | EventKind::Modify(_) | EventKind::Remove(_) => pending.writing.retain(|path| !paths.contains(path)),
        }
        pending.burst.get_or_insert_with(Burst::none).add(named);
        drop(pending);
        self.happened.notify_one();
    }

    /// When the burst is over if nothing more comes, and whether somebody is in the middle of writing.
    fn state(&self) -> (Instant, bool) {
        let pending = self.lock();
        let last = pending.burst.as_ref().map_or_else(Instant::now, |burst| burst.last);
        (last + REBUILD_DEBOUNCE, !pending.writing.is_empty())
    }

    /// Ends the burst.
    fn take(&self) -> Burst {
        let mut pending = self.lock();
        // A file that is written to for ever (or whose end was missed) isn't waited for twice.
        pending.writing.clear();
        pending.burst.take().unwrap_or_else(Burst::none)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
