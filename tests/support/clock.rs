//! A wall clock of a process's own, which a test sets while the process runs. The machine's isn't touched.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What `clock.c` gives to a process. Only to one that asks the C library for the time, as this crate's debug build does.
pub struct Clock {
    directory: TempDir,
}

impl Clock {
    /// As the machine's, at first.
    pub fn new() -> Self {
        let clock = Self { directory: tempfile::tempdir().unwrap() };
        clock.set(0);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(clock.library()).arg(source);
        assert!(compiler.status().expect("a C compiler").success());
        clock
    }

    /// So many seconds ahead of the machine's, from now on.
    pub fn set(&self, ahead: i64) {
        // It is mapped: it must not get shorter.
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(self.shift()).unwrap();
        file.write_all(&ahead.to_ne_bytes()).unwrap();
    }

    /// What a process has to have in its environment.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library()), ("CLOCK_SHIFT", self.shift())]
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("clock.so")
    }

    fn shift(&self) -> PathBuf {
        self.directory.path().join("shift")
    }
}
