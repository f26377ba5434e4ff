//! Finds the manifest files below the paths given, and tells whether one has changed since it was read, without reading it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use foldhash::fast::RandomState;

use super::{interest::Interest, place::Place};

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signature {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Written so short a time before it was looked at that another write could leave the same times behind. Equal to nothing.
    fresh: bool,
}

impl Signature {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            fresh: age.is_none_or(|age| age < TIMESTAMP_GRAIN),
        }
    }

    /// Whether a file with this signature still has the content that was read when it had the `earlier` one.
    pub(super) fn still(&self, earlier: &Self) -> bool {
        !earlier.fresh && self.is_version(earlier)
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether nothing tells the two apart, however short a time lay between them.
    pub(super) fn is_version(&self, other: &Self) -> bool {
        Self { fresh: other.fresh, ..*self } == *other
    }
}

/// File times advance with the kernel's tick, 10 ms at the coarsest.
const TIMESTAMP_GRAIN: Duration = Duration::from_millis(20);

/// What a look at the file system found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The manifest files, each once, even if links lead to it twice.
    pub files: BTreeMap<Place, Signature>,
    /// What changes may matter: in the directories that were walked, to the paths given, and to the links on the way.
    pub interest: Interest,
    /// The directories that were walked, by their real paths.
    pub walked: HashMap<PathBuf, Place>,
    /// Some file has several names: which of them counts may change with any of them.
    pub hard_links: bool,
    /// Directories that hold no manifest anywhere below, among the paths given.
    pub empty: Vec<PathBuf>,
    /// What couldn't be looked at. Whatever was known of it, and of all below it, is as good as it was.
    pub unreadable: Vec<(Place, io::Error)>,
}

/// Looks at every path given, and below the directories among them.
pub(super) fn scan(roots: &[PathBuf]) -> Scan {
    let mut walk = Walk { scan: Scan::default(), files: Vec::new(), seen: HashSet::default() };
    for (root, path) in roots.iter().enumerate() {
        walk.root(root, path);
    }
    walk.scan.files = walk.files.into_iter().collect();
    walk.scan
}

/// Looks at these entries of walked directories alone, named by their real paths. `None` where that isn't enough: a manifest is gone, or
/// something is a link or a directory, or has other names too.
pub(super) fn scan_named(named: &BTreeSet<PathBuf>, walked: &HashMap<PathBuf, Place>) -> Option<BTreeMap<Place, Signature>> {
    let mut files = BTreeMap::new();
    for real in named {
        let directory = walked.get(real.parent()?)?;
        let path = directory.path.join(real.file_name()?);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && !is_manifest(&path) => {}
            Ok(metadata) if metadata.is_file() && metadata.nlink() == 1 => {
                files.insert(Place { root: directory.root, path: path.into() }, Signature::of(&metadata));
            }
            // What is to become a manifest may have another name first.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_manifest(&path) => {}
            Ok(_) | Err(_) => return None,
        }
    }
    Some(files)
}

struct Walk {
    /// Without its files.
    scan: Scan,
    /// In order, so that the map of them is made at little cost.
    files: Vec<(Place, Signature)>,
    /// Device and inode of every file and directory, so that links make neither duplicates nor circles.
    seen: HashSet<(u64, u64), RandomState>,
}

impl Walk {
    fn root(&mut self, root: usize, path: &Path) {
        let place = Place { root, path: path.into() };
        if let Err(error) = self.scan.interest.given(path) {
            return self.scan.unreadable.push((place, error));
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let (files, unreadable) = (self.files.len(), self.scan.unreadable.len());
                self.directory(&place, &metadata);
                if (self.files.len(), self.scan.unreadable.len()) == (files, unreadable) {
                    self.scan.empty.push(path.to_owned());
                }
            }
            Ok(metadata) => self.file(place, &metadata),
            Err(error) => self.scan.unreadable.push((place, error)),
        }
    }

    fn directory(&mut self, place: &Place, metadata: &Metadata) {
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        let real = match fs::canonicalize(&place.path) {
            Ok(real) => real,
            Err(error) => return self.scan.unreadable.push((place.clone(), error)),
        };
        self.scan.interest.walked(real.clone());
        self.scan.walked.insert(real.clone(), place.clone());
        let entries = fs::read_dir(&place.path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.scan.unreadable.push((place.clone(), error)),
        };
        entries.sort_by_cached_key(fs::DirEntry::file_name);
        for entry in entries {
            self.entry(place, &real, &entry);
        }
    }

    fn entry(&mut self, directory: &Place, real: &Path, entry: &fs::DirEntry) {
        let name = entry.file_name();
        if is_hidden(&name) {
            return;
        }
        let place = Place { root: directory.root, path: entry.path().into() };
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if !is_link && !is_manifest(&place.path) && !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            return;
        }
        // What is no link is asked for by its name in the directory: the kernel needn't follow the whole path. It may have become one since, or be in another
        // directory of this path by now.
        let here = if is_link { None } else { entry.metadata().ok().filter(|metadata| !metadata.is_symlink()) };
        let metadata = here.map_or_else(|| fs::metadata(&place.path), Ok);
        if is_link && (is_manifest(&place.path) || !metadata.as_ref().is_ok_and(Metadata::is_file)) {
            self.scan.interest.link(real, &name);
        }
        match metadata {
            Ok(metadata) if metadata.is_dir() => self.directory(&place, &metadata),
            Ok(_) if !is_manifest(&place.path) => {}
            Ok(metadata) => self.file(place, &metadata),
            // Gone since the directory was read. A link that leads nowhere is another matter.
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&place.path).is_err() => {}
            Err(error) if is_manifest(&place.path) => self.scan.unreadable.push((place, error)),
            Err(_) => {}
        }
    }

    fn file(&mut self, place: Place, metadata: &Metadata) {
        if !metadata.is_file() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a directory");
            return self.scan.unreadable.push((place, error));
        }
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        self.scan.hard_links |= metadata.nlink() > 1;
        self.files.push((place, Signature::of(metadata)));
    }
}

/// Whether a walk passes an entry of this name over: editors' temporary files, `.git`, and the real directories behind a ConfigMap volume's links
/// (`..data`, `..2026_08_01_...`).
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a name is a manifest's.
pub(super) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
    // kubectl's own instructions, no object.
    extension && path.file_stem().is_none_or(|stem| stem != "kustomization")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(scan: &Scan, base: &Path) -> Vec<String> {
        scan.files.keys().map(|place| place.path.strip_prefix(base).unwrap().display().to_string()).collect()
    }

    #[test]
    fn manifests_are_found_at_any_depth_and_everything_else_is_passed_over() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::create_dir_all(path.join(".git")).unwrap();
        for name in ["z.yaml", "a/b/c.yml", "a/d.json", "a/kustomization.yaml", ".hidden.yaml", ".git/x.yaml", "a/notes.txt", "z.yaml~"] {
            fs::write(path.join(name), "").unwrap();
        }
        symlink(path, path.join("a/circle")).unwrap();
        symlink(path.join("z.yaml"), path.join("a/again.yaml")).unwrap();
        let scan = scan(&[path.to_owned(), path.join("a/d.json")]);
        assert_eq!(names(&scan, path), ["a/again.yaml", "a/b/c.yml", "a/d.json"]);
        assert!(scan.unreadable.is_empty() && scan.empty.is_empty(), "{scan:?}");
    }

    #[test]
    fn a_config_map_volume_shows_each_file_once() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path();
        fs::create_dir(path.join("..2026_08_01")).unwrap();
        fs::write(path.join("..2026_08_01/app.yaml"), "").unwrap();
        symlink("..2026_08_01", path.join("..data")).unwrap();
        symlink("..data/app.yaml", path.join("app.yaml")).unwrap();
        assert_eq!(names(&scan(&[path.to_owned()]), path), ["app.yaml"]);
    }

    #[test]
    fn a_signature_is_trusted_only_once_the_clock_has_moved_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hour = Duration::from_secs(3600);
        for (label, modified, expected) in [("long ago", SystemTime::now() - hour, true), ("not yet", SystemTime::now() + hour, false)] {
            file.as_file().set_modified(modified).unwrap();
            let signature = Signature::of(&file.as_file().metadata().unwrap());
            assert_eq!(signature.still(&signature), expected, "{label}");
        }
    }

    #[test]
    fn what_cannot_be_looked_at_is_told_and_an_empty_directory_too() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path();
        symlink("nowhere", path.join("dangling.yaml")).unwrap();
        let found = scan(&[path.to_owned(), path.join("absent")]);
        let unreadable: Vec<_> = found.unreadable.iter().map(|(place, _)| place.path.file_name().unwrap().to_owned()).collect();
        assert_eq!(unreadable, ["dangling.yaml", "absent"]);
        fs::remove_file(path.join("dangling.yaml")).unwrap();
        assert_eq!(scan(&[path.to_owned()]).empty, [path]);
    }
}
