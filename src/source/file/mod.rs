//! The `file` source: manifests on disk, read again when they change. The production path without a cluster: the same stores, the same calls.

mod document;
mod finding;
mod interest;
mod lines;
mod manifest;
mod place;
mod readers;
mod scan;
mod state;
mod watch;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    compile::{Diagnostic, Objects},
    config::limits::{MANIFEST_POLL, MANIFEST_REST},
    source::{
        SourceError,
        file::{
            state::{Outcome, State},
            watch::Watch,
        },
        object::Kind,
        shared::Shared,
        stores::{List, Stores},
    },
};

/// A path given on the command line that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("--manifests {path}: {cause}", path = path.display())]
pub struct LoadError {
    path: PathBuf,
    cause: io::Error,
}

/// The paths given, found to be readable at the start.
#[derive(Debug)]
pub(super) struct Files {
    roots: Vec<PathBuf>,
}

/// Reads the files once: what `nodegate check`, `routes` and `explain` work on.
///
/// # Errors
/// A path that doesn't exist or can't be read. Everything else is a diagnostic.
pub fn load(paths: &[PathBuf]) -> Result<(Objects, Vec<Diagnostic>), LoadError> {
    let Files { roots } = Files::open(paths.to_vec())?;
    let Outcome { changes, mut findings, .. } = State::default().refresh(&roots, None, Instant::now());
    let mut stores = Stores::new(lists());
    for change in changes {
        stores.apply(change);
    }
    findings.extend(stores.diagnostics().cloned());
    findings.sort();
    Ok((stores.objects(), findings))
}

/// The lists that this source delivers.
pub(super) fn lists() -> impl Iterator<Item = List> {
    Kind::ALL.into_iter().map(|kind| List { kind, namespace: None })
}

impl Files {
    /// Makes sure that the paths are there.
    pub(super) fn open(roots: Vec<PathBuf>) -> Result<Self, LoadError> {
        for path in &roots {
            readable(path).map_err(|cause| LoadError { path: path.clone(), cause })?;
        }
        Ok(Self { roots })
    }
}

/// Keeps the stores up to date until the future is dropped.
pub(super) async fn run(files: Files, shared: &Shared, started: Instant) -> Result<Infallible, SourceError> {
    let mut watcher = Watcher::new(files, started);
    loop {
        let pause = watcher.look(shared).await?;
        watcher.wait(pause).await;
    }
}

/// Looks at the files again and again.
struct Watcher {
    roots: Vec<PathBuf>,
    watch: Watch,
    state: State,
    /// The first event that no look has seen, and how many there are.
    since: Instant,
    events: u64,
    /// What they were about, if it is known.
    named: Option<BTreeSet<PathBuf>>,
    /// When to look at all files again, whatever the kernel tells of them.
    poll: Instant,
    /// The findings that the rebuild loop was told last.
    said: Option<Vec<Diagnostic>>,
}

/// When to look again.
struct Pause {
    /// Not before then.
    earliest: Instant,
    /// At once after that, or after something happened.
    again: bool,
    /// Even if nothing happens.
    latest: Instant,
}

impl Watcher {
    fn new(files: Files, started: Instant) -> Self {
        Self {
            roots: files.roots,
            watch: Watch::new(),
            state: State::default(),
            since: started,
            events: 0,
            named: None,
            poll: started,
            said: None,
        }
    }

    /// Looks once, and tells what has changed.
    async fn look(&mut self, shared: &Shared) -> Result<Pause, SourceError> {
        let (roots, mut state) = (self.roots.clone(), std::mem::take(&mut self.state));
        let begun = Instant::now();
        // However often the kernel names a few files: the look at all of them isn't put off.
        let named = self.named.take().filter(|_| begun < self.poll);
        // Reading files blocks, and this thread has a data plane's probes to answer.
        let look = tokio::task::spawn_blocking(move || {
            let outcome = state.refresh(&roots, named.as_ref(), Instant::now());
            (state, outcome)
        });
        let outcome;
        (self.state, outcome) = look.await.map_err(|_| SourceError::Stopped("reading manifests"))?;
        let Outcome { changes, mut findings, interest, again } = outcome;
        // Something may have happened to what is new in it after it was looked at and before it was watched.
        let incomplete = interest.as_ref().is_some_and(|interest| self.watch.follow(interest));
        findings.extend(self.watch.fault());
        // A poll that found nothing is no reason to compile ten thousand Ingresses anew.
        let fruitful = !changes.is_empty() || self.said.as_ref() != Some(&findings);
        if fruitful {
            self.said = Some(findings.clone());
            shared.apply(changes, Some(findings), self.since);
        }
        let took = begun.elapsed();
        tracing::debug!(events = self.events, fruitful, seconds = took.as_secs_f64(), "looked at the manifests");
        if interest.is_some() {
            self.poll = Instant::now() + MANIFEST_POLL.max(took * 100);
        }
        // A poll is rare enough by itself: an edit that comes behind it needn't wait.
        let rest = if fruitful || self.events == 0 { Duration::ZERO } else { took * MANIFEST_REST };
        Ok(Pause { earliest: Instant::now() + rest, again: incomplete, latest: again.map_or(self.poll, |again| again.min(self.poll)) })
    }

    /// Waits until it is time to look again.
    async fn wait(&mut self, pause: Pause) {
        let Pause { earliest, again, latest } = pause;
        if again {
            (self.since, self.events, self.named) = (Instant::now(), 0, None);
            tokio::time::sleep_until(earliest).await;
        } else {
            let burst = self.watch.changed(earliest, latest).await;
            (self.since, self.events, self.named) = (burst.since, burst.events, burst.named);
        }
    }
}

fn readable(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() { fs::read_dir(path).map(drop) } else { File::open(path).map(drop) }
}

#[cfg(test)]
mod tests;
