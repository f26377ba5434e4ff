//! A node as the processes on it see it: addresses and a rendezvous that all of them share.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Backend, GET, PATIENCE, Wire, eventually, manifest, within};

/// Addresses that no other test has, a backend that answers "hello", and manifests that lead to it.
pub struct Node {
    pub http: SocketAddr,
    pub http6: SocketAddr,
    pub admin: SocketAddr,
    /// The name of the rendezvous.
    pub name: String,
    directory: TempDir,
    /// An API server that takes connections and says nothing.
    _mute: TcpListener,
}

impl Node {
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 128 | (low & 0x7f), middle ^ high, number);
        let directory = tempfile::tempdir().unwrap();
        let backend = Backend::start().serve("hello");
        fs::write(directory.path().join("manifests.yaml"), manifest(&[("", "/", backend)])).unwrap();
        let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let config = format!(
            "{{apiVersion: v1, kind: Config, current-context: a, contexts: [{{name: a, context: {{cluster: a, user: a}}}}], \
             users: [{{name: a, user: {{}}}}], clusters: [{{name: a, cluster: {{server: 'http://{}'}}}}]}}",
            mute.local_addr().unwrap()
        );
        fs::write(directory.path().join("kubeconfig"), config).unwrap();
        // IPv6 has one loopback address: the port has to tell tests apart.
        let free = TcpListener::bind("[::1]:0").unwrap();
        Self {
            http: (ip, 8080).into(),
            http6: free.local_addr().unwrap(),
            admin: (ip, 9080).into(),
            name: format!("test-{}-{number}", std::process::id()),
            directory,
            _mute: mute,
        }
    }

    /// A process that serves, with these arguments besides.
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) -> Process {
        let process = self.launch(arguments);
        process.wait_for("serving");
        process
    }

    /// As [`Node::start`], with this environment in the place of arguments that it has anything to say of.
    #[track_caller]
    pub fn start_in(&self, environment: &[(String, String)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
        let own = [
            ("NODEGATE_MANIFESTS", self.directory.path().join("manifests.yaml").to_str().unwrap().to_owned()),
            ("NODEGATE_HTTP", format!("{},{}", self.http, self.http6)),
            ("NODEGATE_ADMIN", self.admin.to_string()),
        ];
        command.arg("serve").envs(environment.iter().cloned()).envs(own);
        let process = Self::run(&mut command);
        process.wait_for("serving");
        process
    }

    /// As above, which may not have got so far.
    pub fn launch(&self, arguments: &[&str]) -> Process {
        let manifests = self.directory.path().join("manifests.yaml");
        self.spawn(&mut Command::new(env!("CARGO_BIN_EXE_nodegate")), &[&["--manifests", manifests.to_str().unwrap()], arguments].concat())
    }

    /// A process that never gets its first table: its API server is silent.
    #[track_caller]
    pub fn start_without_table(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
        let process = self.spawn(command.env("KUBECONFIG", self.directory.path().join("kubeconfig")), arguments);
        process.wait_for("listening");
        process
    }

    /// A process that stands by, with what is in that directory to serve: in a pod, and given no more than its addresses.
    #[track_caller]
    pub fn launch_standby(&self, directory: &str) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
        command.args(["serve", "--standby", "--state-dir", directory, "--admin", &self.admin.to_string()]);
        command.args(["--http", &format!("{},{}", self.http, self.http6), "--workers", "1", "--access-log", "off"]);
        let process = Self::run(command.env("KUBERNETES_SERVICE_HOST", "192.0.2.1"));
        process.wait_for("standing by: serving once");
        process
    }

    /// A process of another user.
    pub fn launch_as(&self, uid: u32, arguments: &[&str]) -> Process {
        let mut command = Command::new("setpriv");
        let manifests = self.directory.path().join("manifests.yaml");
        let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
        command.args(ids).args(["--clear-groups", env!("CARGO_BIN_EXE_nodegate")]);
        self.spawn(&mut command, &[&["--manifests", manifests.to_str().unwrap()], arguments].concat())
    }

    /// A process in a PID namespace of its own, as every container has one. Needs root.
    #[track_caller]
    pub fn launch_contained(&self, arguments: &[&str]) -> Contained {
        let manifests = self.directory.path().join("manifests.yaml");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", env!("CARGO_BIN_EXE_nodegate")]);
        let process = self.spawn(&mut command, &[&["--manifests", manifests.to_str().unwrap()], arguments].concat());
        let outer = process.child.id();
        let children = format!("/proc/{outer}/task/{outer}/children");
        let pid = eventually("the first process of the namespace", || fs::read_to_string(&children).ok()?.trim().parse().ok());
        Contained { process, pid, admin: self.admin }
    }

    fn spawn(&self, command: &mut Command, arguments: &[&str]) -> Process {
        let own = |flag: &str| !arguments.contains(&flag);
        command.arg("serve").args(["--admin", &self.admin.to_string(), "--access-log", "off"]);
        if own("--handover") {
            command.args(["--handover", &self.name]);
        }
        if own("--http") {
            command.args(["--http", &format!("{},{}", self.http, self.http6)]);
        }
        if own("--workers") {
            command.args(["--workers", "1"]);
        }
        if own("--after-handover") {
            command.args(["--after-handover", "wait"]);
        }
        Self::run(command.args(arguments))
    }

    fn run(command: &mut Command) -> Process {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, pid) = (Arc::clone(&log), child.id());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Shown where a test fails.
                eprintln!("{pid}: {line}");
                lines.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Process { child, log }
    }

    /// What `nodegate ready` says in a container whose own process doesn't answer: the exit code. Needs root.
    #[track_caller]
    pub fn ready_elsewhere(&self) -> Option<i32> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_nodegate"), "ready", "--admin", &self.admin.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().code()
    }

    /// The status of an admin page, whoever answers.
    #[track_caller]
    pub fn admin(&self, page: &str) -> u16 {
        Wire::connect(self.admin).exchange(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).status()
    }

    /// The text of an admin page, whoever answers.
    #[track_caller]
    pub fn page(&self, page: &str) -> String {
        Wire::page(self.admin, page).text().to_owned()
    }

    /// A request on a connection of its own.
    #[track_caller]
    pub fn assert_serves(&self) {
        for address in [self.http, self.http6] {
            assert_eq!(Wire::connect(address).exchange(GET).text(), "hello", "{address}");
        }
    }
}

/// A `nodegate serve`. Dropping it kills it.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Waits for a line of the log that has this in its message, and returns it.
    #[track_caller]
    pub fn wait_for(&self, message: &str) -> Value {
        eventually(message, || self.logged(message))
    }

    /// Waits for a line that isn't of the log, and has this in it.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) {
        eventually(text, || {
            self.log.lock().unwrap().iter().any(|line| line.as_str().is_some_and(|line| line.contains(text))).then_some(())
        });
    }

    /// The first line of the log that has this in its message.
    pub fn logged(&self, message: &str) -> Option<Value> {
        self.log.lock().unwrap().iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains(message))).cloned()
    }

    /// How many lines of the log have this in their message.
    pub fn times(&self, message: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains(message))).count()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it in whatever it does. On return none of its threads runs: a signal alone is noticed later.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        // The state is the first word after the name, which stands in brackets (proc_pid_stat(5)).
        let is_stopped = |stat: &str| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'));
        eventually("the process is stopped", || {
            let mut stats = fs::read_dir(&tasks).unwrap().map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
            stats.all(|stat| is_stopped(&stat)).then_some(())
        });
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process: after its last word the kernel still has to give its inotify instance back, for which it waits until all cores
    /// have been elsewhere. On a busy machine that takes half a minute, and under a load that never rests it may never end.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        within(3 * PATIENCE, "the end of the process", || self.child.try_wait().unwrap())
    }
}

/// A process that is alone in its PID namespace.
pub struct Contained {
    pub process: Process,
    pid: u32,
    admin: SocketAddr,
}

impl Contained {
    /// What `nodegate ready` says in its container: the exit code.
    #[track_caller]
    pub fn ready(&self) -> Option<i32> {
        let pid = self.pid.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--pid", "--mount", env!("CARGO_BIN_EXE_nodegate"), "ready", "--admin", &self.admin.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("process {} said:", self.child.id());
            self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|line| println!("  {line}"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
