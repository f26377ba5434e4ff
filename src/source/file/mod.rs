//! The `file` source: manifests on disk, read again when they change. The production path without a cluster: the same stores, the same calls.

mod document;
mod manifest;
mod scan;
mod state;
mod watch;

use std::{
    convert::Infallible,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use tokio::time::Instant;

use crate::{
    compile::{Diagnostic, Objects},
    config::limits::MANIFEST_POLL,
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
#[error("--manifests {path}: {source}", path = path.display())]
pub struct LoadError {
    path: PathBuf,
    source: io::Error,
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
    let Outcome { changes, mut findings, .. } = State::default().refresh(&roots, Instant::now());
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
            readable(path).map_err(|source| LoadError { path: path.clone(), source })?;
        }
        Ok(Self { roots })
    }
}

/// Keeps the stores up to date until the future is dropped.
pub(super) async fn run(files: Files, shared: &Shared, started: Instant) -> Result<Infallible, SourceError> {
    let mut watch = Watch::new(&files.roots);
    let mut state = State::default();
    let mut since = started;
    let mut said = None;
    loop {
        let roots = files.roots.clone();
        let begun = Instant::now();
        // Reading files blocks, and this thread has a data plane's probes to answer.
        let look = tokio::task::spawn_blocking(move || {
            let outcome = state.refresh(&roots, Instant::now());
            (state, outcome)
        });
        let outcome;
        (state, outcome) = look.await.map_err(|_| SourceError::Stopped("reading manifests"))?;
        let Outcome { changes, mut findings, directories, again } = outcome;
        let incomplete = watch.follow(&directories);
        findings.extend(watch.fault());
        // A poll that found nothing is no reason to compile ten thousand Ingresses anew.
        if !changes.is_empty() || said.as_ref() != Some(&findings) {
            said = Some(findings.clone());
            shared.apply(changes, Some(findings), since);
        }
        if incomplete {
            // Something may have been written into a directory after it was read and before it was watched.
            since = Instant::now();
            continue;
        }
        let poll = Instant::now() + MANIFEST_POLL.max(begun.elapsed() * 100);
        since = watch.changed(again.unwrap_or(poll).min(poll)).await;
    }
}

fn readable(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() { fs::read_dir(path).map(drop) } else { File::open(path).map(drop) }
}
