//! `nodegate prepare`: a directory that the user who serves may write, where only root can make one.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown, lchown},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use rustix::process::{getegid, geteuid};

use crate::config::args::{Owner, PrepareArgs};

/// Keys may be in it.
const MODE: u32 = 0o700;
/// The rights of everybody else.
const OTHERS: u32 = 0o077;

/// Makes it so, or finds it so: no right is used that isn't needed.
pub(super) fn prepare(args: &PrepareArgs) -> anyhow::Result<ExitCode> {
    let PrepareArgs { state_dir, owner: Owner { user, group } } = args;
    let cant = |what: &str| format!("can't {what} {}", state_dir.display());
    if let Some(parent) = state_dir.parent() {
        // Whoever gets the directory has to come through these.
        fs::create_dir_all(parent).with_context(|| cant("make"))?;
    }
    match DirBuilder::new().mode(MODE).create(state_dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.with_context(|| cant("make"))?,
    }
    let named = fs::symlink_metadata(state_dir).with_context(|| cant("look at"))?;
    ensure!(named.is_dir(), "{} is no directory of its own", state_dir.display());
    if (named.uid(), named.gid()) != (*user, *group) || named.mode() & OTHERS != 0 {
        // Ours first: the right to give something away is none to open or to change what belongs to others.
        lchown(state_dir, Some(geteuid().as_raw()), Some(getegid().as_raw())).with_context(|| cant("take"))?;
        let directory = File::open(state_dir).with_context(|| cant("open"))?;
        let found = directory.metadata().with_context(|| cant("look at"))?;
        // What it is called may be something else by now, in a directory that others may write.
        ensure!((found.dev(), found.ino()) == (named.dev(), named.ino()), "{} is being replaced", state_dir.display());
        directory.set_permissions(Permissions::from_mode(MODE)).with_context(|| cant("close"))?;
        fchown(&directory, Some(*user), Some(*group)).with_context(|| cant("give away"))?;
    }
    super::print(&format!("{} belongs to {user}:{group}\n", state_dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_directory_is_made_closed_and_given_away_and_a_link_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let own = fs::metadata(parent.path()).unwrap();
        let owner = Owner { user: own.uid(), group: own.gid() };
        let run = |name: &str| prepare(&PrepareArgs { state_dir: parent.path().join(name), owner });
        let mode = |name: &str| fs::metadata(parent.path().join(name)).unwrap().mode() & 0o7777;
        for _ in 0..2 {
            run("a/b").unwrap();
            assert_eq!(mode("a/b"), MODE);
            assert_ne!(mode("a"), MODE, "others may come through");
        }
        fs::create_dir(parent.path().join("open")).unwrap();
        fs::set_permissions(parent.path().join("open"), Permissions::from_mode(0o755)).unwrap();
        symlink(parent.path().join("open"), parent.path().join("link")).unwrap();
        fs::write(parent.path().join("file"), "").unwrap();
        for wrong in ["link", "file"] {
            run(wrong).unwrap_err();
            assert_eq!(mode("open"), 0o755, "{wrong}");
        }
        run("open").unwrap();
        assert_eq!(mode("open"), MODE);
    }
}
