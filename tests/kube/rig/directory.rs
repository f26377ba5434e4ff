//! Where a test keeps its keys, data and logs: below cargo's own directory for such files, named by process so that leftovers can be told.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

/// A directory of one test. Removed when dropped; after a failure the logs in it stay, until the next run.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes an empty one.
    pub fn create(what: &str) -> Self {
        static SWEPT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kube");
        SWEPT.call_once(|| sweep(&root));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{}-{number}-{what}", process::id()));
        fs::create_dir_all(&path).expect("a directory for the test's files");
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it, at once: tests that share a directory may be reading one of that name. Returns the file's path.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (path, new) = (self.path.join(name), self.path.join(format!("new-{}", NEXT.fetch_add(1, Ordering::Relaxed))));
        fs::write(&new, content).expect("a file in the test's directory");
        fs::rename(new, &path).expect("its name");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.path.display());
        } else {
            _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes what test processes left that no longer run: killed ones, and failed ones whose logs have been read by now.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            _ = fs::remove_dir_all(entry.path());
        }
    }
}
