//! What is known of every file, and which file's version of an object counts: turns a look at the file system into changes for the stores.

mod changed;
mod known;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{self, Read},
    mem,
    path::{Path, PathBuf},
};

use tokio::time::Instant;

use self::{
    changed::{Batch, Changed, pairs},
    known::{Absence, Known},
};
use crate::{
    compile::{Diagnostic, Severity},
    config::limits::{MANIFEST_BATCH_BYTES, MANIFEST_FILE_BYTES, MANIFEST_READS},
    source::{
        file::{
            document::fingerprint,
            finding::{display, duplicate, empty_directory, problem, unreadable_path},
            interest::Interest,
            manifest::{Definition, Text},
            place::Place,
            readers,
            scan::{Scan, Signature, scan, scan_named},
        },
        object::{Key, Kind},
        stores::{Change, List, Version},
    },
};

/// The files of one `--manifests`, as they were when last looked at.
#[derive(Debug, Default)]
pub(super) struct State {
    files: BTreeMap<Place, Known>,
    /// For each object the files that define it, in order.
    claims: HashMap<Key, Vec<Place>>,
    /// Objects that more than one file defines.
    contested: BTreeSet<Key>,
    /// Of the last look at all of them.
    walked: HashMap<PathBuf, Place>,
    hard_links: bool,
    empty: Vec<PathBuf>,
    unreadable: Vec<(Place, io::Error)>,
    started: bool,
}

/// The outcome of a look.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What the stores are to be told.
    pub changes: Vec<Change>,
    /// Everything wrong with the files now.
    pub findings: Vec<Diagnostic>,
    /// What changes may matter. `None` after a look at the named files alone: as before.
    pub interest: Option<Interest>,
    /// When to look again even if nothing happens: a file is missing that may come back.
    pub again: Option<Instant>,
}

impl State {
    /// Looks at the files, reads those that changed, and works out what that means. If nothing has happened but to the `named` ones (by their
    /// real paths), it looks at them alone, where that is enough: asking the kernel for ten thousand takes longer than all the rest of an edit.
    pub(super) fn refresh(&mut self, roots: &[PathBuf], named: Option<&BTreeSet<PathBuf>>, now: Instant) -> Outcome {
        let mut touched = BTreeSet::new();
        let interest = if let Some(files) = named.and_then(|named| self.named(named)) {
            self.read(&files, now, &mut touched);
            None
        } else {
            let Scan { files, interest, walked, hard_links, empty, unreadable } = scan(roots);
            self.read(&files, now, &mut touched);
            (self.walked, self.hard_links, self.empty, self.unreadable) = (walked, hard_links, empty, unreadable);
            self.settle_missing(&files, now, &mut touched);
            Some(interest)
        };
        let again = self.files.values().filter_map(|known| known.gone).map(|gone| gone.until).min();
        let changes = self.changes(touched);
        Outcome { changes, findings: self.findings(), interest, again }
    }

    /// The named files alone. `None` where others may matter too: one is missing or empty for the moment, a directory has had none, or one is
    /// there under several names.
    fn named(&self, named: &BTreeSet<PathBuf>) -> Option<BTreeMap<Place, Signature>> {
        let calm = !self.hard_links && self.empty.is_empty() && self.files.values().all(|known| known.gone.is_none());
        calm.then(|| scan_named(named, &self.walked)).flatten()
    }

    /// Reads those of the files that changed.
    fn read(&mut self, files: &BTreeMap<Place, Signature>, now: Instant, touched: &mut BTreeSet<Key>) {
        let mut batch = Batch::default();
        for (place, signature) in self.changed(files) {
            batch.extend(self.look(place, signature, now));
            if batch.bytes >= MANIFEST_BATCH_BYTES {
                self.take(mem::take(&mut batch), touched);
            }
        }
        self.take(batch, touched);
    }

    /// Those of the files that may have another content than was read of them. Both maps are in order: they are gone through side by side.
    fn changed<'a>(&self, files: &'a BTreeMap<Place, Signature>) -> Vec<(&'a Place, Signature)> {
        let mut known = self.files.iter().peekable();
        let mut is_known = |place: &Place, signature: &Signature| {
            while known.next_if(|(earlier, _)| *earlier < place).is_some() {}
            known.next_if(|(earlier, _)| *earlier == place).is_some_and(|(_, known)| known.is_still(signature))
        };
        files.iter().filter(|(place, signature)| !is_known(place, signature)).map(|(place, signature)| (place, *signature)).collect()
    }

    /// The text of one file, if it is a new one.
    fn look(&mut self, place: &Place, signature: Signature, now: Instant) -> Option<Changed> {
        let known = self.files.entry(place.clone()).or_default();
        let text = match read(&place.path) {
            Ok(text) => text,
            Err(problem) => {
                known.problems = vec![known.keeping(*problem)];
                // Its times say nothing about when it will be readable, so it is tried at every look.
                (known.signature, known.content) = (None, None);
                return None;
            }
        };
        known.signature = Some(signature);
        if text.is_empty() && known.is_held(Absence::Empty, now) {
            return None;
        }
        let content = Some(fingerprint(&text));
        let returned = known.gone.take().is_some();
        if !returned && known.content == content {
            return None;
        }
        known.content = content;
        Some(Changed { place: place.clone(), text, returned })
    }

    /// Finds out what the files say now, and which objects that concerns.
    fn take(&mut self, batch: Batch, touched: &mut BTreeSet<Key>) {
        if batch.changed.is_empty() {
            return;
        }
        let texts: Vec<Text<'_>> = batch.changed.iter().map(|changed| changed.text(self.files.get(&changed.place))).collect();
        let manifests = readers::read(&texts);
        let paths: Vec<_> = texts.into_iter().map(|text| text.path).collect();
        for ((Changed { place, returned, .. }, path), manifest) in batch.changed.into_iter().zip(paths).zip(manifests) {
            let known = self.files.entry(place.clone()).or_default();
            let before = known.take(&path, manifest);
            for (old, new) in pairs(&before, &known.objects) {
                let Some(Definition { key, .. }) = new.or(old) else { continue };
                match (old, new) {
                    // While it was gone another file's definition may have counted, so everything in it is decided anew once it is back.
                    (Some(old), Some(new)) if !returned && old.text.is_some() && old.text == new.text => continue,
                    (Some(_), Some(_)) => {}
                    (None, _) => claim(&mut self.claims, key, &place),
                    (_, None) => unclaim(&mut self.claims, key, &place),
                }
                touched.insert(key.clone());
            }
        }
    }

    /// Deals with files that were there and aren't: forgets them, unless they may just be out for a moment, or behind something unreadable.
    fn settle_missing(&mut self, files: &BTreeMap<Place, Signature>, now: Instant, touched: &mut BTreeSet<Key>) {
        let hidden = |place: &Place| self.unreadable.iter().any(|(lost, _)| lost.root == place.root && place.path.starts_with(&lost.path));
        let claims = &mut self.claims;
        let mut found = files.keys().peekable();
        self.files.retain(|place, known| {
            while found.next_if(|other| *other < place).is_some() {}
            if found.next_if(|other| *other == place).is_some() || hidden(place) {
                return true;
            }
            touched.extend(known.keys().cloned());
            if known.is_held(Absence::Missing, now) {
                return true;
            }
            known.keys().for_each(|key| unclaim(claims, key, place));
            false
        });
    }

    /// Decides anew about the objects that were touched. The first time it is about everything there is.
    fn changes(&mut self, touched: BTreeSet<Key>) -> Vec<Change> {
        for key in &touched {
            if self.claims.get(key).is_some_and(|places| places.len() > 1) {
                self.contested.insert(key.clone());
            } else {
                self.contested.remove(key);
            }
        }
        let versions = touched.into_iter().map(|key| (self.winner(&key).map(|(_, definition)| definition.version.clone()), key));
        if self.started {
            return versions.map(|(version, key)| version.map_or(Change::Delete(key), Change::Upsert)).collect();
        }
        let mut lists: BTreeMap<Kind, Vec<Version>> = Kind::ALL.into_iter().map(|kind| (kind, Vec::new())).collect();
        for (version, key) in versions {
            lists.entry(key.kind).or_default().extend(version);
        }
        self.started = true;
        lists.into_iter().map(|(kind, versions)| Change::ReplaceAll { list: List { kind, namespace: None }, versions }).collect()
    }

    /// The definition that counts: that of the first file, other than those that may be gone for good.
    fn winner(&self, key: &Key) -> Option<(&Place, &Definition)> {
        let claims = || self.claims.get(key).into_iter().flatten().filter_map(|place| Some((place, self.files.get(place)?)));
        let (place, known) = claims().find(|(_, known)| known.gone.is_none()).or_else(|| claims().next())?;
        Some((place, known.definition(key)?))
    }

    fn findings(&self) -> Vec<Diagnostic> {
        let mut findings: Vec<Diagnostic> = self.files.values().flat_map(|known| known.problems.iter().cloned()).collect();
        for key in &self.contested {
            let Some((winner, _)) = self.winner(key) else { continue };
            for place in self.claims.get(key).into_iter().flatten().filter(|place| *place != winner) {
                let Some(known) = self.files.get(place).filter(|known| known.gone.is_none()) else { continue };
                let Some(definition) = known.definition(key) else { continue };
                findings.push(duplicate(&display(&place.path), definition.at, key, &winner.path.display().to_string()));
            }
        }
        findings.extend(self.empty.iter().map(|path| empty_directory(path)));
        findings.extend(self.unreadable.iter().map(|(place, error)| unreadable_path(&place.path, error)));
        findings
    }
}

fn claim(claims: &mut HashMap<Key, Vec<Place>>, key: &Key, place: &Place) {
    let places = claims.entry(key.clone()).or_default();
    if let Err(index) = places.binary_search(place) {
        places.insert(index, place.clone());
    }
}

fn unclaim(claims: &mut HashMap<Key, Vec<Place>>, key: &Key, place: &Place) {
    if let Some(places) = claims.get_mut(key) {
        places.retain(|other| other != place);
        if places.is_empty() {
            claims.remove(key);
        }
    }
}

/// The file's text.
fn read(path: &Path) -> Result<String, Box<Diagnostic>> {
    let bytes = read_unmoved(path).map_err(|error| Box::new(unreadable_path(path, &error)))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MANIFEST_FILE_BYTES) {
        let message = format!("larger than {MANIFEST_FILE_BYTES} bytes, so it isn't read");
        return Err(Box::new(problem("too_large", Severity::Error, path, 0, message, "split it into several files")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.split(|byte| *byte == b'\n').count();
        Box::new(problem("malformed", Severity::Error, path, line, "not UTF-8".into(), "save it as UTF-8"))
    })
}

/// The bytes of one version of the file. Reading takes several calls, and whoever overwrites the file between two of them would leave us with the
/// beginning of one version and the end of another: then it is read again. Bounded, for a file that is written to without end.
fn read_unmoved(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..MANIFEST_READS {
        let mut file = File::open(path)?;
        let before = Signature::of(&file.metadata()?);
        bytes.clear();
        // Room for all of it, and for seeing the end: one call then, mostly.
        bytes.reserve(usize::try_from(before.length().min(MANIFEST_FILE_BYTES)).unwrap_or_default() + 1);
        file.by_ref().take(MANIFEST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        let after = Signature::of(&file.metadata()?);
        let whole = u64::try_from(bytes.len()).is_ok_and(|length| length == after.length().min(MANIFEST_FILE_BYTES + 1));
        if whole && after.is_version(&before) {
            break;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
