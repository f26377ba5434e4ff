//! The file itself: replaced as a whole, or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use crate::config::limits::{STATE_BYTES, STATE_TEMPORARY_AGE};

/// Its name in its directory.
const NAME: &str = "objects";
/// That of one that can't be used. The last one stays, for whoever wants to know why.
const UNUSABLE: &str = "objects.unusable";
const TEMPORARY: &str = ".tmp";

/// See above. Several processes may have the same directory at a time: one that takes over, and the one before it.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The whole file; `None` where there is none.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let found = file.metadata()?;
        if found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is somebody else's, or others may write it"));
        }
        let mut bytes = Vec::new();
        let most = u64::try_from(STATE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        file.take(most).read_to_end(&mut bytes)?;
        if bytes.len() > STATE_BYTES {
            return Err(too_large());
        }
        Ok(Some(bytes))
    }

    /// Whoever reads it sees what was there before, or all of this, whatever happens meanwhile.
    pub(super) fn write(&self, parts: &[&[u8]]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let temporary = self.directory.join(format!("{NAME}.{:016x}{TEMPORARY}", fastrand::u64(..)));
        let written = self.replace(&temporary, parts);
        if written.is_err() {
            // It would take room that may be what is missing; where it can't be removed, the next start tries again.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn replace(&self, temporary: &Path, parts: &[&[u8]]) -> io::Result<()> {
        // Keys may be in it.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        drop(file);
        fs::rename(temporary, self.path())?;
        // The name, too, is to outlive a loss of power.
        File::open(&self.directory)?.sync_all()
    }

    /// Out of the way of the next one. Returns where it is now.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let kept = self.directory.join(UNUSABLE);
        fs::rename(self.path(), &kept)?;
        Ok(kept)
    }

    /// Removes what is on this disk that must not stay there: the file itself, and one that was set aside.
    pub(super) fn remove(&self, file: bool) -> io::Result<()> {
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        remove(&self.directory.join(UNUSABLE))?;
        if file { remove(&self.path()) } else { Ok(()) }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Removes what processes have left that died while they wrote.
    pub(super) fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(NAME)?.strip_prefix('.')?.strip_suffix(TEMPORARY));
            let is_temporary = number.is_some_and(|number| number.len() == 16 && number.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|modified| modified.elapsed().ok());
            if is_temporary && age.is_some_and(|age| age > STATE_TEMPORARY_AGE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

pub(super) fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it would have more than {STATE_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::fs::PermissionsExt,
        time::{Duration, SystemTime},
    };

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_is_read_and_nobody_else_may() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        let disk = Disk::new(directory.clone());
        assert_eq!(disk.read().unwrap(), None);
        for text in ["first", "second"] {
            disk.write(&[b"the ", text.as_bytes()]).unwrap();
            assert_eq!(disk.read().unwrap().unwrap(), format!("the {text}").into_bytes());
        }
        assert_eq!(names(&directory), [NAME]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(NAME))), (0o700, 0o600));
        assert_eq!(fs::read(disk.set_aside().unwrap()).unwrap(), b"the second");
        assert_eq!((disk.read().unwrap(), names(&directory)), (None, vec![UNUSABLE.to_owned()]));
        disk.write(&[b"keys"]).unwrap();
        disk.remove(false).unwrap();
        assert_eq!(names(&directory), [NAME]);
        disk.remove(true).unwrap();
        assert!(names(&directory).is_empty());
        disk.remove(true).unwrap();
    }

    #[test]
    fn what_fails_leaves_what_was_there() {
        let parent = tempfile::tempdir().unwrap();
        let disk = Disk::new(parent.path().join("state"));
        disk.write(&[b"good"]).unwrap();
        // Where the file belongs there is a directory: the last step fails.
        let blocked = Disk::new(parent.path().join("blocked"));
        fs::create_dir_all(parent.path().join("blocked").join(NAME).join("x")).unwrap();
        blocked.write(&[b"more"]).unwrap_err();
        assert_eq!(names(&parent.path().join("blocked")), [NAME], "nothing is left behind");
        // Not even a directory can be made.
        fs::write(parent.path().join("file"), "").unwrap();
        Disk::new(parent.path().join("file/state")).write(&[b"more"]).unwrap_err();
        assert_eq!(disk.read().unwrap().unwrap(), b"good");
    }

    #[test]
    fn what_the_dead_have_left_is_removed_and_what_the_living_write_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let [dead, living, others] = ["objects.0123456789abcdef.tmp", "objects.fedcba9876543210.tmp", "objects.tmp"];
        for name in [dead, living, others] {
            let file = File::create(directory.path().join(name)).unwrap();
            if name != living {
                file.set_modified(SystemTime::now() - 2 * STATE_TEMPORARY_AGE - Duration::from_secs(1)).unwrap();
            }
        }
        let disk = Disk::new(directory.path().to_owned());
        assert_eq!((disk.read().unwrap(), names(directory.path()).len()), (None, 3), "whoever only reads changes nothing");
        disk.clean();
        assert_eq!(names(directory.path()), [living, others]);
    }

    #[test]
    fn what_others_may_write_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path().to_owned());
        disk.write(&[b"good"]).unwrap();
        for (mode, readable) in [(0o644, true), (0o620, false), (0o602, false), (0o600, true)] {
            fs::set_permissions(directory.path().join(NAME), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(disk.read().is_ok(), readable, "{mode:o}");
        }
    }
}
