//! A child process that can't outlive the test: killed when dropped, and killed by the kernel should the test itself be killed.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

/// A running child; both its outputs are appended to one log file.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`. Must be called on a thread that lives as long as the child is wanted (a test's own thread does): the kernel counts the
    /// end of the *thread* as the parent's death.
    pub fn start<A: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &OsStr)],
        directory: &Path,
    ) -> Self {
        let log = directory.join(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            // Where the tests themselves run in a pod, its cluster is none of theirs.
            .env_remove("KUBERNETES_SERVICE_HOST")
            .envs(environment.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(duplicate(&output))
            .stderr(output)
            .spawn()
            .expect("setpriv (package util-linux) starts the processes of these tests");
        Self { name, child, log }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of our own child")
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("our own child takes signals");
    }

    /// Fails the test, with the end of the log, if the process is gone.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended ({status}); its last lines:\n{}", self.name, self.last_lines());
        }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}, last lines:\n{}", self.name, self.last_lines());
        }
        // Without a goodbye: an API server that is asked to end waits for its watchers, for a minute if need be.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn duplicate(file: &File) -> File {
    file.try_clone().expect("a second handle of the log file")
}
