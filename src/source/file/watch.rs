//! Learns from the kernel (inotify) that something happened in a directory, and when a burst of such events is over.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    compile::{Diagnostic, Severity, Subject},
    config::limits::{REBUILD_CEILING, REBUILD_DEBOUNCE},
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
    /// When the first event came that nobody has asked for yet.
    since: Option<Instant>,
    /// Files that were written to and not closed since: a writer is in the middle of them.
    writing: HashSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet. `roots` are the paths given, which count as manifests whatever their names are.
    pub(super) fn new(roots: &[PathBuf]) -> Self {
        let signal = Arc::new(Signal::default());
        let named: HashSet<PathBuf> = roots.iter().cloned().collect();
        let receiver = Arc::clone(&signal);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| receiver.note(event, &named));
        let (watcher, fault) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { watcher, signal, watched: BTreeMap::new(), fault }
    }

    /// Watches these directories and no others. Returns whether one was added, so that it has to be looked at once more.
    pub(super) fn follow(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut added = false;
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

    /// Waits until a burst of events is over and nobody is in the middle of writing, but no longer than the ceiling after its first event; or
    /// until `deadline`, if nothing happens. Returns when the first event came.
    pub(super) async fn changed(&self, deadline: Instant) -> Instant {
        while self.signal.lock().since.is_none() {
            if timeout_at(deadline, self.signal.happened.notified()).await.is_err() {
                return Instant::now();
            }
        }
        let ceiling = Instant::now() + REBUILD_CEILING;
        loop {
            let quiet = (Instant::now() + REBUILD_DEBOUNCE).min(ceiling);
            let calm = timeout_at(quiet, self.signal.happened.notified()).await.is_err();
            let over = Instant::now() >= ceiling;
            let mut pending = self.signal.lock();
            if over || (calm && pending.writing.is_empty()) {
                // A file that is written to for ever (or whose end was missed) isn't waited for twice.
                pending.writing.clear();
                return pending.since.take().unwrap_or_else(Instant::now);
            }
        }
    }
}

impl Signal {
    fn note(&self, event: notify::Result<Event>, named: &HashSet<PathBuf>) {
        // An error says that events may have been lost, so it counts as one.
        let (kind, paths) = event.map_or((EventKind::Any, Vec::new()), |event| (event.kind, event.paths));
        let concerned = |path: &PathBuf| is_content(path) || named.contains(path);
        let mut pending = self.lock();
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                pending.writing.retain(|path| !paths.contains(path));
                if !paths.iter().any(concerned) {
                    return;
                }
            }
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Data(_)) => {
                if !paths.iter().any(concerned) {
                    return;
                }
                pending.writing.extend(paths);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Create(_) | EventKind::Any | EventKind::Other => {}
            EventKind::Modify(_) | EventKind::Remove(_) => {
                pending.writing.retain(|path| !paths.contains(path));
            }
        }
        pending.since.get_or_insert_with(Instant::now);
        drop(pending);
        self.happened.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether writing to a file of this name may change a manifest. Others (a log that grows beside the manifests) are left to the poll, in
/// case a link with a manifest's name leads to them.
fn is_content(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_none_or(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests;
