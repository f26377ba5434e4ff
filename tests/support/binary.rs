//! The binary itself as a child process, for what only a process has: signals, an exit code, file descriptors, memory.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::{Message, Wire, eventually};

/// A running `nodegate serve`. Dropping it kills it.
pub struct Binary {
    /// Where it serves.
    pub http: SocketAddr,
    /// Its admin listener.
    pub admin: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Binary {
    /// Serves these manifests with one worker, on ports of the kernel's choice; more arguments are the test's.
    pub fn start(manifests: &str, arguments: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_nodegate")), manifests, arguments)
    }

    /// As [`Self::start`], with a limit of open files from the start on.
    pub fn start_with_files(files: u64, manifests: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_nodegate")]);
        Self::start_by(shell, manifests, &[])
    }

    fn start_by(mut command: Command, manifests: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("manifests")).unwrap();
        fs::write(directory.path().join("manifests/all.yaml"), manifests).unwrap();
        let child = command
            .args(["serve", "--manifests", "manifests", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1"])
            .args(["--access-log", "access.log"])
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut binary = Self { http: unknown, admin: unknown, child, directory };
        (binary.http, binary.admin) =
            eventually("both addresses are in the log", || binary.listening("http").zip(binary.listening("admin")));
        eventually("it is ready", || (binary.admin_get("/readyz").status() == 200).then_some(()));
        binary
    }

    /// The address of that listener, from the log line that tells it.
    fn listening(&mut self, listener: &str) -> Option<SocketAddr> {
        let log = self.log();
        assert!(self.child.try_wait().unwrap().is_none(), "ended at once:\n{log}");
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ours = lines.filter(|line| line["message"] == "listening" && line["listener"] == listener);
        ours.find_map(|line| line["address"].as_str()?.parse().ok())
    }

    /// What it has said on standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.http)
    }

    /// `GET path` on the admin listener.
    pub fn admin_get(&self, path: &str) -> Message {
        Wire::connect(self.admin).exchange(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Replaces the manifests in one step, as editors and configuration management do.
    pub fn edit(&self, manifests: &str) {
        let next: PathBuf = self.directory.path().join("next.yaml");
        fs::write(&next, manifests).unwrap();
        fs::rename(next, self.directory.path().join("manifests/all.yaml")).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn exit(mut self) -> ExitStatus {
        eventually("it ends", || self.child.try_wait().unwrap())
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// File descriptors that are open.
    pub fn files(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count() as u64
    }

    /// Lets it have so many file descriptors, whatever it has already. Returns how many it could have before.
    pub fn limit_files(&self, current: u64) -> u64 {
        let maximum = prlimit(Some(self.pid()), Resource::Nofile, Rlimit { current: Some(current), maximum: self.hard_limit() });
        maximum.unwrap().current.unwrap_or(u64::MAX)
    }

    fn hard_limit(&self) -> Option<u64> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(4).unwrap().parse().ok()
    }

    /// A line of `/proc/PID/status` that counts memory, in bytes.
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    }

    /// CPU time used so far, in clock ticks (a hundredth of a second).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold anything; behind it, utime and stime are the 12th and 13th field.
        let fields: Vec<u64> = stat.rsplit_once(')').unwrap().1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last lines of its log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
