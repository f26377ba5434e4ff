//! Reads the documents of many files, those that are new on several threads beside each other.

use std::{
    iter, panic,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    document::Document,
    manifest::{Manifest, Text},
};
use crate::config::limits::{MANIFEST_READER_DOCUMENTS, MANIFEST_READERS};

/// Documents that are read in one go. Fewer would make much ado about each, more would leave a thread with the last ones alone.
const PORTION: usize = 16;

/// Neighbours in one file.
struct Portion<'a> {
    file: usize,
    text: &'a Text<'a>,
    documents: &'a [Document<'a>],
    /// Nothing in it is new.
    known: bool,
}

/// What each of the files says.
pub(super) fn read(files: &[Text<'_>]) -> Vec<Manifest> {
    read_on(files, thread::available_parallelism().map_or(1, usize::from).min(MANIFEST_READERS))
}

/// On so many threads at the most.
fn read_on(files: &[Text<'_>], threads: usize) -> Vec<Manifest> {
    let documents: Vec<Vec<Document<'_>>> = files.iter().map(Text::documents).collect();
    let portions: Vec<Portion<'_>> = iter::zip(files, &documents)
        .enumerate()
        .flat_map(|(file, (text, documents))| documents.chunks(PORTION).map(move |documents| Portion::new(file, text, documents)))
        .collect();
    // In a large file that was edited nearly all is known: no work to share.
    let new: Vec<&Portion<'_>> = portions.iter().filter(|portion| !portion.known).collect();
    let others = (new.len() * PORTION / MANIFEST_READER_DOCUMENTS).min(threads).saturating_sub(1);
    let mut read = beside(&new, others).into_iter();
    let mut manifests: Vec<Manifest> = files.iter().map(|_| Manifest::default()).collect();
    for portion in &portions {
        let part = if portion.known { Some(portion.read()) } else { read.next() };
        if let (Some(manifest), Some(part)) = (manifests.get_mut(portion.file), part) {
            manifest.append(part);
        }
    }
    manifests
}

impl<'a> Portion<'a> {
    fn new(file: usize, text: &'a Text<'a>, documents: &'a [Document<'a>]) -> Self {
        Self { file, text, documents, known: documents.iter().all(|document| text.knows(*document)) }
    }

    fn read(&self) -> Manifest {
        let mut manifest = Manifest::default();
        self.documents.iter().for_each(|document| manifest.append(self.text.read(*document)));
        manifest
    }
}

/// What each of them says, in their order, read on this thread and so many others.
fn beside(portions: &[&Portion<'_>], others: usize) -> Vec<Manifest> {
    let next = AtomicUsize::new(0);
    let mut parts = thread::scope(|scope| {
        let work = || work(portions, &next);
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
    parts.into_iter().map(|(_, part)| part).collect()
}

/// Takes portions until there are no more. Each with its number.
fn work(portions: &[&Portion<'_>], next: &AtomicUsize) -> Vec<(usize, Manifest)> {
    iter::from_fn(|| {
        let index = next.fetch_add(1, Ordering::Relaxed);
        portions.get(index).map(|portion| (index, portion.read()))
    })
    .collect()
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
        for threads in [1, 2, 5] {
            let manifests = read_on(&texts, threads);
            assert_eq!(manifests.len(), contents.len());
            for (file, (manifest, count)) in manifests.iter().zip(counts).enumerate() {
                let found: Vec<String> = manifest.definitions.iter().map(|definition| definition.key.to_string()).collect();
                let expected: Vec<String> = (0..count).map(|number| format!("Service n{file}/s{number}")).collect();
                assert_eq!(found, expected, "file {file} on {threads} threads");
                assert!(manifest.definitions.iter().zip(1..).all(|(definition, number)| definition.at.document == number));
            }
        }
    }
}
