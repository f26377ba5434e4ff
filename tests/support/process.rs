//! The program itself as a process of its own, for what concerns a whole process: signals, memory, file descriptors, files that change.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::{Clock, PATIENCE, Wire};

/// How long the process may take until it is ready: a debug build reads 10,000 Ingresses in 15 to 25 s.
const STARTUP: Duration = Duration::from_mins(1);

/// `nodegate serve` on a directory of manifests. Dropping it kills it.
pub struct Nodegate {
    /// Where it serves HTTP.
    pub address: SocketAddr,
    /// Where its admin listener is.
    pub admin: SocketAddr,
    /// Where else it listens, by what is spoken there.
    pub others: Vec<(String, SocketAddr)>,
    child: Child,
    directory: TempDir,
}

impl Nodegate {
    /// With one worker, and these arguments besides.
    pub fn serve(manifests: &str, arguments: &[&str]) -> Self {
        Self::serve_by(Command::new(env!("CARGO_BIN_EXE_nodegate")), manifests, arguments)
    }

    /// Started by a shell that lowers the limit of open files first.
    pub fn serve_with_files(files: u32, manifests: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_nodegate")]);
        Self::serve_by(command, manifests, &[])
    }

    /// With a wall clock of its own.
    pub fn serve_by_clock(clock: &Clock, manifests: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
        command.envs(clock.environment());
        Self::serve_by(command, manifests, arguments)
    }

    fn serve_by(mut command: Command, manifests: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("manifests.yaml"), manifests).unwrap();
        command.args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", "--manifests"]);
        command.arg(directory.path()).args(arguments);
        if !arguments.contains(&"--access-log") {
            command.args(["--access-log", "off"]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, listeners) = mpsc::channel();
        // Reads on for as long as the process writes, so that it never meets a full pipe.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                let fields = if event["fields"].is_object() { &event["fields"] } else { &event };
                if fields["message"] == "listening" {
                    let address: SocketAddr = fields["address"].as_str().unwrap().parse().unwrap();
                    let _ = sender.send((fields["listener"].as_str().unwrap().to_owned(), address));
                }
                // Shown where a test fails.
                eprintln!("{line}");
            }
        });
        let (mut http, mut admin, mut others) = (None, None, Vec::new());
        while http.is_none() || admin.is_none() {
            let (listener, address) = listeners.recv_timeout(PATIENCE).expect("the process says where it listens");
            match listener.as_str() {
                "http" => http = Some(address),
                "admin" => admin = Some(address),
                // Told before the admin listener.
                _ => others.push((listener, address)),
            }
        }
        let nodegate = Self { address: http.unwrap(), admin: admin.unwrap(), others, child, directory };
        nodegate.wait_until_ready();
        nodegate
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + STARTUP;
        while self.readiness() != 200 {
            assert!(Instant::now() < deadline, "not ready within {STARTUP:?}");
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// The status of `/readyz`.
    #[track_caller]
    pub fn readiness(&self) -> u16 {
        Wire::connect(self.admin).exchange("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status()
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Where this is spoken.
    #[track_caller]
    pub fn at(&self, listener: &str) -> SocketAddr {
        self.others.iter().find(|(name, _)| name == listener).unwrap_or_else(|| panic!("nothing speaks {listener}")).1
    }

    /// The value of a metric without labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page = Wire::page(self.admin, "/metrics");
        let line = page.text().lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no metric {name}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Where the manifests are: `manifests.yaml` in a directory of its own.
    pub fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests.yaml")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for the process to end");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The memory that it has resident, in bytes.
    pub fn memory(&self) -> u64 {
        self.bytes("VmRSS:")
    }

    /// The most memory it has ever had resident, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.bytes("VmHWM:")
    }

    /// Whether the kernel may back its memory with huge pages.
    pub fn may_have_huge_pages(&self) -> bool {
        self.status("THP_enabled:") != "0"
    }

    fn bytes(&self, field: &str) -> u64 {
        self.status(field).trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
    }

    /// CPU time used so far, in clock ticks: a hundredth of a second each.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold anything; behind it, utime and stime are the 12th and the 13th field.
        let fields: Vec<u64> = stat.rsplit_once(')').unwrap().1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    }

    /// From now on so many descriptors may be open, however many are. The ceiling stays, so that the limit can be raised again.
    pub fn limit_files(&self, files: u64) {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let maximum = line.split_whitespace().nth(4).unwrap().parse().ok();
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
    }

    /// Open file descriptors.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Nodegate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
