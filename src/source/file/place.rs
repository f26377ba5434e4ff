//! Where a manifest file was found, and which of two comes first.

use std::{cmp::Ordering, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

/// Where a file was found. The order decides between two files that define the same object: the path given first on the command line wins, and
/// below one path the order of names.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Which of the paths given, counted from 0.
    pub root: usize,
    /// The path, beginning with the one given.
    pub path: Arc<Path>,
}

/// Bytes that are compared at once: long paths mostly differ in their ends alone.
const STRIDE: usize = 32;

impl Ord for Place {
    /// As the components of their paths are ordered, those below one root being written alike, but without taking the paths apart, which cost most of a look at ten thousand files.
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, other_path) = (self.path.as_os_str().as_bytes(), other.path.as_os_str().as_bytes());
        let strides = one.chunks_exact(STRIDE).zip(other_path.chunks_exact(STRIDE));
        let same = STRIDE * strides.take_while(|(one, other)| one == other).count();
        self.root.cmp(&other.root).then_with(|| names(one, same).cmp(names(other_path, same)))
    }
}

/// The bytes from an offset on, of which the separator is the least, as the end of a name is less than all that could go on.
fn names(path: &[u8], offset: usize) -> impl Iterator<Item = u8> {
    path.iter().skip(offset).map(|byte| if *byte == b'/' { 0 } else { *byte })
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_their_names() {
        // Differences before, at and behind the bounds of what is compared at once.
        let bases: Vec<String> = [
            "/m".into(),
            format!("/{}", "n".repeat(STRIDE - 3)),
            format!("/{}", "n".repeat(STRIDE - 2)),
            format!("/{}", "n".repeat(STRIDE - 1)),
        ]
        .into_iter()
        .flat_map(|base: String| [base.clone(), format!("{base}/{}", "o".repeat(STRIDE)), format!("{base}-{}", "o".repeat(2 * STRIDE))])
        .collect();
        let names = ["", "/a", "/a/z", "/a-b", "/a.yaml", "/b", "/b/c", "/b!", "/ä", "/b/c/d.yaml", "/b/c-d"];
        let paths: Vec<String> = bases.iter().flat_map(|base| names.iter().map(move |name| format!("{base}{name}"))).collect();
        let place = |root, path: &String| Place { root, path: Path::new(path).into() };
        for one in &paths {
            for other in &paths {
                assert_eq!(place(0, one).cmp(&place(0, other)), Path::new(one).cmp(Path::new(other)), "{one} {other}");
                assert!(place(0, one) < place(1, other), "{one} {other}");
            }
        }
    }
}
