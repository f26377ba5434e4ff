//! What one manifest file holds, as it was when last looked at, and how it keeps its objects while it is malformed or out for a moment.

use std::{mem, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    compile::Diagnostic,
    config::limits::{MANIFEST_EMPTY_HOLD, MANIFEST_HOLD},
    source::{
        file::{
            finding::duplicate,
            manifest::{Definition, Earlier, Manifest},
            scan::Signature,
        },
        object::Key,
    },
};

/// A file, as it was when last looked at.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) signature: Option<Signature>,
    /// Hash of the text that was last read.
    pub(super) content: Option<u64>,
    /// Sorted by their keys. With ten thousand files a map in each would cost more than the objects.
    pub(super) objects: Vec<Definition>,
    pub(super) problems: Vec<Diagnostic>,
    /// `objects` is the whole of some version of the file, none of which was malformed.
    pub(super) whole: bool,
    /// Missing or empty, and its objects kept for a moment.
    pub(super) gone: Option<Gone>,
}

/// How a file is gone, and the moment from which it counts as gone for good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    pub(super) how: Absence,
    pub(super) until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    Missing,
    Empty,
}

impl Absence {
    fn hold(self) -> Duration {
        match self {
            Self::Missing => MANIFEST_HOLD,
            Self::Empty => MANIFEST_EMPTY_HOLD,
        }
    }
}

impl Known {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.iter().map(|definition| &definition.key)
    }

    pub(super) fn definition(&self, key: &Key) -> Option<&Definition> {
        let index = self.objects.binary_search_by(|definition| definition.key.cmp(key)).ok()?;
        self.objects.get(index)
    }

    /// Those of its documents that needn't be read again if they are still there.
    pub(super) fn earlier(&self) -> Earlier<'_> {
        self.objects.iter().filter_map(|definition| Some((definition.text?, definition))).collect()
    }

    /// Whether a file with this signature has the content that was read last.
    pub(super) fn is_still(&self, signature: &Signature) -> bool {
        self.gone.is_none() && self.signature.is_some_and(|earlier| signature.still(&earlier))
    }

    /// Whether its objects are to be kept for another moment, although it is gone in this way.
    pub(super) fn is_held(&mut self, how: Absence, now: Instant) -> bool {
        if self.objects.is_empty() {
            return false;
        }
        let gone = self.gone.filter(|gone| gone.how == how).unwrap_or_else(|| Gone { how, until: now + how.hold() });
        self.gone = Some(gone);
        now < gone.until
    }

    /// Takes over what the file says now, and returns what it said before. A malformed file keeps its previous content as a whole: half of an edit could pair
    /// a new Ingress with an old Service. If no version of it ever was whole, there is nothing better than what can be read of it.
    pub(super) fn take(&mut self, path: &Arc<str>, manifest: Manifest) -> Vec<Definition> {
        let Manifest { definitions: mut objects, mut problems, malformed } = manifest;
        if malformed && self.whole && !self.objects.is_empty() {
            self.problems = problems.into_iter().map(|problem| self.keeping(problem)).collect();
            return self.objects.clone();
        }
        // Of two with one key the first stays before the other.
        objects.sort_by(|one, other| one.key.cmp(&other.key));
        objects.dedup_by(|later, first| {
            let twice = later.key == first.key;
            if twice {
                problems.push(duplicate(path, later.at, &later.key, "an earlier document of this file"));
            }
            twice
        });
        if malformed {
            let missing = |old: &&Definition| objects.binary_search_by(|new| new.key.cmp(&old.key)).is_err();
            let kept: Vec<Definition> = self.objects.iter().filter(missing).cloned().collect();
            objects.extend(kept);
            objects.sort_by(|one, other| one.key.cmp(&other.key));
        }
        (self.problems, self.whole) = (problems, !malformed);
        mem::replace(&mut self.objects, objects)
    }

    /// Adds to a problem with the file as a whole what becomes of its objects.
    pub(super) fn keeping(&self, mut problem: Diagnostic) -> Diagnostic {
        if !self.objects.is_empty() {
            problem.message.push_str("; the file's previous content stays in force");
        }
        problem
    }
}
