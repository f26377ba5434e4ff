//! A network namespace and a mount namespace, held by a sleeping process; commands, daemons and closures run in it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::AsFd,
    panic::resume_unwind,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime;

use crate::tools;

/// One of the machines that these tests pretend to be.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
    network: File,
}

impl Namespace {
    /// Makes one, and runs a shell script in it that prepares its mounts.
    pub fn create(prepare: &str) -> Self {
        let script = format!("set -euo pipefail\nip link set lo up\n{prepare}\necho prepared\nexec sleep infinity");
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation=private", "bash", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (package util-linux)");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("the holder's line");
        assert_eq!(said, "prepared\n", "a namespace could not be prepared; it says above why");
        let network = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the namespace of a process that runs");
        Self { holder, network }
    }

    /// The process that holds it, as the sandbox counts.
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// The words before a command that make it run in here.
    pub fn prefix(&self) -> Vec<String> {
        let of = |kind: &str, file: &str| format!("--{kind}=/proc/{}/ns/{file}", self.holder());
        vec!["nsenter".to_owned(), of("net", "net"), of("mount", "mnt"), "--".to_owned()]
    }

    /// A command that will run in here.
    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(&self.prefix()[1..]).args(line);
        command
    }

    /// Runs a command to its end in here. Its standard output; panics with everything it said if it fails.
    #[track_caller]
    pub fn run(&self, line: &[&str]) -> String {
        tools::run(&mut self.command(line))
    }

    /// As [`Entrance::within`].
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.entrance().within(work)
    }

    /// As [`Entrance::within_async`].
    pub fn within_async<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.entrance().within_async(work)
    }

    /// A handle for threads that outlive this borrow.
    pub fn entrance(&self) -> Entrance {
        Entrance(self.network.try_clone().expect("a second handle"))
    }
}

/// The way into a network namespace.
#[derive(Debug)]
pub struct Entrance(File);

impl Entrance {
    /// Runs a closure on a thread that is in this network namespace: its sockets, and those of threads it starts, live there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter a namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// As [`Self::within`], for asynchronous work. It gets a runtime of its own, so what it makes (connections) has to end in it.
    pub fn within_async<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.within(|| runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work()))
    }
}
