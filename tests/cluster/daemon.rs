//! Programs that run on: started with a log file, stopped, started again. The sandbox ends those that are left.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// One program of the cluster, which may be running or not.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    /// Program and arguments.
    line: Vec<String>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Daemon {
    /// One that isn't started yet. `line` is program and arguments; both outputs are appended to `NAME.log` in `logs`.
    pub fn new(name: &str, line: Vec<String>, logs: &Path) -> Self {
        Self { name: name.to_owned(), line, log: logs.join(format!("{name}.log")), child: Mutex::new(None) }
    }

    /// Starts it, if it doesn't run.
    pub fn start(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_some() {
            return;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let (program, arguments) = self.line.split_first().expect("a program");
        let started = Command::new(program)
            .args(arguments)
            // Where these tests themselves run in a pod, its cluster is none of theirs.
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log file"))
            .stderr(log)
            .spawn();
        *child = Some(started.unwrap_or_else(|error| panic!("{}: {}: {error}", self.name, self.line.join(" "))));
    }

    /// Kills it and starts it again, if it runs. Whether it did.
    pub fn restart(&self) -> bool {
        let runs = self.child.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if runs {
            self.stop();
            self.start();
        }
        runs
    }

    /// Kills it, as a crash would.
    pub fn stop(&self) {
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// Holds it still, all its threads, while something is done. It runs.
    pub fn held<T>(&self, work: impl FnOnce() -> T) -> T {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = Pid::from_child(child.as_ref().expect("one that runs"));
        kill_process(pid, Signal::STOP).expect("our own child");
        waitpid(Some(pid), WaitOptions::UNTRACED).expect("our own child");
        let done = work();
        kill_process(pid, Signal::CONT).expect("our own child");
        done
    }

    /// Fails, with the end of its log, if it ended by itself.
    pub fn check(&self) -> Result<(), String> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.as_mut().map(|child| child.try_wait().expect("our own child")) {
            Some(Some(status)) => Err(format!("{} ended ({status}):\n{}", self.name, self.last_lines())),
            _ => Ok(()),
        }
    }

    fn last_lines(&self) -> String {
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
