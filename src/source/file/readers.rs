//! Reads the documents of many files beside each other, on as many threads as there are cores. No I/O.

use std::{
    panic,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    document::Document,
    manifest::{Manifest, Text},
};
use crate::config::limits::{MANIFEST_READER_DOCUMENTS, MANIFEST_READERS};

/// What each of the files says.
pub(super) fn read(files: &[Text<'_>]) -> Vec<Manifest> {
    let documents: Vec<(usize, Document<'_>)> =
        files.iter().enumerate().flat_map(|(file, text)| text.documents().into_iter().map(move |document| (file, document))).collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let others = (documents.len() / MANIFEST_READER_DOCUMENTS).min(cores).min(MANIFEST_READERS).saturating_sub(1);
    let next = AtomicUsize::new(0);
    let mut parts = thread::scope(|scope| {
        let work = || work(files, &documents, &next);
        // Where the system has no thread for us, this one does all.
        let spawn = |_| thread::Builder::new().name("manifests".into()).spawn_scoped(scope, work).ok();
        let handles: Vec<_> = (0..others).filter_map(spawn).collect();
        let mut parts = work();
        for handle in handles {
            parts.extend(handle.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked)));
        }
        parts
    });
    parts.sort_unstable_by_key(|(index, _)| *index);
    let mut manifests: Vec<Manifest> = files.iter().map(|_| Manifest::default()).collect();
    for ((file, _), (_, part)) in documents.iter().zip(parts) {
        if let Some(manifest) = manifests.get_mut(*file) {
            manifest.append(part);
        }
    }
    manifests
}

/// Takes documents until there are no more. Each with its number among all.
fn work(files: &[Text<'_>], documents: &[(usize, Document<'_>)], next: &AtomicUsize) -> Vec<(usize, Manifest)> {
    let mut parts = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some((file, document)) = documents.get(index) else { return parts };
        let Some(text) = files.get(*file) else { return parts };
        parts.push((index, text.read(*document)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::file::manifest::{Earlier, Format};

    #[test]
    fn documents_keep_their_files_and_their_order_however_many_threads_read_them() {
        let service =
            |file: usize, number: usize| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: n{file}}}\n");
        let counts = [MANIFEST_READER_DOCUMENTS, 0, 3 * MANIFEST_READER_DOCUMENTS, 1];
        let contents: Vec<String> = counts
            .iter()
            .enumerate()
            .map(|(file, count)| (0..*count).map(|number| service(file, number)).collect::<Vec<_>>().join("---\n"))
            .collect();
        let texts: Vec<Text<'_>> = contents
            .iter()
            .map(|content| Text { path: "f.yaml".into(), content, format: Format::Yaml, earlier: Earlier::default() })
            .collect();
        let manifests = read(&texts);
        assert_eq!(manifests.len(), contents.len());
        for (file, (manifest, count)) in manifests.iter().zip(counts).enumerate() {
            let found: Vec<String> = manifest.definitions.iter().map(|definition| definition.key.to_string()).collect();
            let expected: Vec<String> = (0..count).map(|number| format!("Service n{file}/s{number}")).collect();
            assert_eq!(found, expected, "file {file}");
            assert!(manifest.definitions.iter().zip(1..).all(|(definition, number)| definition.at.document == number));
        }
    }
}
