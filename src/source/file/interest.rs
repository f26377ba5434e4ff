//! Which changes in the watched directories can matter to the manifests: a log that grows beside them is none of our business.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::scan::{is_hidden, is_manifest};

/// Links that are followed on the way to one file. The kernel's own number.
const LINKS: usize = 40;

/// The paths that matter. All of them are real: their directories are free of links, which makes one spelling of each, the kernel's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// Directories that were walked: any entry may be a manifest, or lead to one.
    walked: HashSet<PathBuf>,
    /// Paths of which the name alone says nothing: those given, every link on the way to what was read, and where it ended.
    single: HashSet<PathBuf>,
    /// Those walked, and those that hold a single path.
    directories: BTreeSet<PathBuf>,
}

/// What happened to an entry of a directory, as far as it makes a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is there now, and may be a link or a directory whatever its name is.
    Appeared,
    /// Its content, its metadata, or its absence is new.
    Other,
}

impl Interest {
    /// A directory that was walked, by its real path.
    pub(super) fn walked(&mut self, real: PathBuf) {
        self.directories.insert(real.clone());
        self.walked.insert(real);
    }

    /// A path given.
    pub(super) fn given(&mut self, path: &Path) -> io::Result<()> {
        let absolute = std::path::absolute(path)?;
        self.trail(PathBuf::new(), absolute.as_os_str());
        Ok(())
    }

    /// An entry of a directory with that real path, which is a link.
    pub(super) fn link(&mut self, real: &Path, name: &OsStr) {
        self.trail(real.to_owned(), name);
    }

    /// The directories in which a change may matter.
    pub(super) fn directories(&self) -> &BTreeSet<PathBuf> {
        &self.directories
    }

    /// Whether whatever concerns the `other` concerns this one too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.walked.is_subset(&self.walked) && other.single.is_subset(&self.single)
    }

    /// Whether this change of this path may change a manifest, or the way to one.
    pub(super) fn concerns(&self, path: &Path, change: Change) -> bool {
        if self.single.contains(path) || self.directories.contains(path) {
            return true;
        }
        if path.parent().is_none() {
            return true;
        }
        (change == Change::Appeared || is_manifest(path)) && self.is_entry(path)
    }

    /// Whether this path is an entry of a directory that was walked and nothing else: no link, no directory, no path given, as far as is
    /// known.
    pub(super) fn is_mere_entry(&self, path: &Path) -> bool {
        !self.single.contains(path) && !self.directories.contains(path) && self.is_entry(path)
    }

    /// Whether a walk would come by it.
    fn is_entry(&self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
        !is_hidden(name) && self.walked.contains(directory)
    }

    /// Follows `rest` from the real directory `at` as the kernel does, and keeps every link met on the way and the end of it. What doesn't exist
    /// counts as no link, so that its appearance is noticed.
    fn trail(&mut self, mut at: PathBuf, rest: &OsStr) {
        let mut rest = steps(rest);
        let mut links = 0;
        while let Some(step) = rest.pop() {
            match step {
                Step::Root => at = PathBuf::from("/"),
                Step::Up => _ = at.pop(),
                Step::Down(name) => {
                    at.push(name);
                    if let Ok(target) = fs::read_link(&at) {
                        links += 1;
                        if links > LINKS {
                            break;
                        }
                        self.keep(at.clone());
                        at.pop();
                        rest.extend(steps(target.as_os_str()));
                    }
                }
            }
        }
        self.keep(at);
    }

    fn keep(&mut self, path: PathBuf) {
        self.directories.extend(path.parent().map(Path::to_owned));
        self.single.insert(path);
    }
}

enum Step {
    Root,
    Up,
    Down(OsString),
}

/// The steps of a path, the first one last.
fn steps(path: &OsStr) -> Vec<Step> {
    let step = |component| match component {
        Component::RootDir | Component::Prefix(_) => Some(Step::Root),
        Component::CurDir => None,
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
    };
    Path::new(path).components().rev().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_on_the_way_matters_and_so_does_its_end() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        for directory in ["conf", "releases", "releases/v1", "releases/v1/sub"] {
            fs::create_dir(base.join(directory)).unwrap();
        }
        fs::write(base.join("releases/v1/sub/app.yaml"), "").unwrap();
        symlink("v1", base.join("releases/current")).unwrap();
        symlink(base.join("releases/current/sub"), base.join("live")).unwrap();
        symlink("../live/app.yaml", base.join("conf/a.yaml")).unwrap();
        let mut interest = Interest::default();
        interest.given(&base.join("conf/a.yaml")).unwrap();
        let mut found: Vec<_> = interest.single.iter().map(|path| path.strip_prefix(&base).unwrap().display().to_string()).collect();
        found.sort();
        assert_eq!(found, ["conf/a.yaml", "live", "releases/current", "releases/v1/sub/app.yaml"]);
        let mut found: Vec<_> = interest.directories().iter().map(|path| path.strip_prefix(&base).unwrap().display().to_string()).collect();
        found.sort();
        assert_eq!(found, ["", "conf", "releases", "releases/v1/sub"]);
    }

    #[test]
    fn a_circle_of_links_and_a_missing_file_end() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        symlink("b", base.join("a")).unwrap();
        symlink("a", base.join("b")).unwrap();
        let mut interest = Interest::default();
        interest.given(&base.join("a")).unwrap();
        interest.given(&base.join("absent.yaml")).unwrap();
        for name in ["a", "b", "absent.yaml"] {
            assert!(interest.single.contains(&base.join(name)), "{name}");
        }
    }

    #[test]
    fn only_what_can_lead_to_a_manifest_matters() {
        let mut interest = Interest::default();
        interest.walked("/w".into());
        interest.walked("/w/sub".into());
        interest.keep("/s/named.conf".into());
        interest.keep("/w/..data".into());
        let cases = [
            ("a manifest that was written", "/w/a.yaml", Change::Other, true),
            ("a manifest that appeared", "/w/sub/a.json", Change::Appeared, true),
            ("a log that grows", "/w/access.log", Change::Other, false),
            ("a name without an extension that grows", "/w/log", Change::Other, false),
            ("a directory or a link that appeared, perhaps", "/w/conf.d", Change::Appeared, true),
            ("an editor's file", "/w/.a.yaml.swp", Change::Appeared, false),
            ("a walked directory that went away", "/w/sub", Change::Other, true),
            ("a link on the way, hidden or not", "/w/..data", Change::Other, true),
            ("a path given, whatever its name", "/s/named.conf", Change::Other, true),
            ("the directory of a path given", "/s", Change::Other, true),
            ("a manifest's name beside a path given", "/s/access.json", Change::Other, false),
            ("one that appeared there", "/s/new.yaml", Change::Appeared, false),
        ];
        for (label, path, change, expected) in cases {
            assert_eq!(interest.concerns(Path::new(path), change), expected, "{label}");
        }
    }
}
