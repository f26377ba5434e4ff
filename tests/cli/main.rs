//! The binary from outside: exit codes, one-line errors, the environment, what is printed where, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's panic is its failure")]

mod refusals;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A binary with nothing of this machine's environment: no cluster, no `NODEGATE_*`.
fn nodegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    nodegate(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Exit 2, nothing on standard output, and one line on standard error that begins with the program's name.
fn assert_refused(output: &Output, expected: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("nodegate: ") && error.contains(expected), "got: {error}want: {expected}");
    assert_eq!(text(&output.stdout), "");
}

const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: CLUSTER_IP, ports: [{port: SERVICE_PORT}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  ingressClassName: nodegate
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: SERVICE_PORT}}}}
      - {path: /cart, pathType: Prefix, backend: {service: {name: web, port: {number: SERVICE_PORT}}}}
";

const BROKEN: &str = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: broken, namespace: shop}
spec:
  ingressClassName: nodegate
  rules:
  - host: broken.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: missing, port: {number: 80}}}}]}
";

/// A directory with the manifests, whose Service leads to `backend`.
fn manifests(backend: SocketAddr, more: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let yaml = MANIFESTS.replace("CLUSTER_IP", &backend.ip().to_string()).replace("SERVICE_PORT", &backend.port().to_string());
    fs::write(directory.path().join("shop.yaml"), yaml + more).unwrap();
    directory
}

fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 43, 200, 1], 80))
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A running `serve`, ended by force when dropped.
struct Serving {
    child: Child,
    log: Receiver<Value>,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(nodegate(&["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1"]).args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, log) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // The thread ends with the process.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let _ = sender.send(line);
            }
        });
        let address = |listener: &str| {
            let line = wait_for(&log, |line| line["message"] == "listening" && line["listener"] == listener);
            line["address"].as_str().unwrap().parse().unwrap()
        };
        let http = address("http");
        let admin = address("admin");
        Self { child, log, http, admin }
    }

    fn ready(self) -> Self {
        let start = Instant::now();
        while !get(self.admin, "/readyz").starts_with("HTTP/1.1 200") {
            assert!(start.elapsed() < PATIENCE, "never ready");
            thread::sleep(Duration::from_millis(10));
        }
        self
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Until the process has been interrupted by the signal: it is no longer pending (proc(5), `ShdPnd`).
    fn wait_for_delivery(&self, signal: Signal) {
        let bit = 1_u64 << (signal.as_raw() - 1);
        let start = Instant::now();
        loop {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
            if u64::from_str_radix(pending.trim(), 16).unwrap() & bit == 0 {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "a signal stays pending");
            thread::yield_now();
        }
    }

    fn log_line(&self, message: &str) -> Value {
        wait_for(&self.log, |line| line["message"] == message)
    }

    fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "doesn't end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(log: &Receiver<Value>, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    loop {
        match log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if wanted(&line) => return line,
            Ok(line) => seen.push(line),
            Err(error) => panic!("{error}; the log was {seen:#?}"),
        }
    }
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, target: &str) -> String {
    exchange(address, &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// The next connection; a panic, not a hang, if there is none.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            return stream;
        }
        assert!(start.elapsed() < PATIENCE, "nobody connects");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn serve_says_where_it_listens_and_ends_with_0_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = manifests(nobody(), "");
        let mut serving = Serving::start(&["--manifests", utf8(directory.path()), "--metrics", "127.0.0.1:0"]).ready();
        assert_ne!(serving.http.port(), 0);
        assert!(get(serving.admin, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(get(serving.admin, "/metrics").contains("\nnodegate_ready 1\n"));
        serving.signal(signal);
        assert_eq!(serving.exit_code(), Some(0));
        serving.log_line("drained");
    }
}

#[test]
fn settings_from_flags_and_environment_are_shown() {
    let directory = manifests(nobody(), "");
    let mut command = nodegate(&["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--keep-alive-timeout", "5m"]);
    command
        .env("NODEGATE_MANIFESTS", directory.path())
        .env("NODEGATE_TRUSTED_PROXIES", "10.0.0.0/8,cloudflare")
        .env("NODEGATE_WORKERS", "2");
    let serving = Serving::spawn(&mut command).ready();
    let answer = get(serving.admin, "/config");
    let config: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(config["limits"]["keep-alive-timeout"], "5m");
    assert_eq!(config["trusted-proxies"], serde_json::json!(["10.0.0.0/8", "cloudflare"]));
    assert_eq!(config["workers"], 2);
}

#[test]
fn second_signal_ends_it_at_once() {
    // A backend that takes the request and never answers.
    let backend = TcpListener::bind("127.43.200.2:0").unwrap();
    let directory = manifests(backend.local_addr().unwrap(), "");
    let mut serving = Serving::start(&["--manifests", utf8(directory.path()), "--drain-timeout", "10m"]).ready();
    let mut client = TcpStream::connect(serving.http).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    let mut upstream = accept(&backend);
    upstream.read_exact(&mut [0; 4]).unwrap();

    serving.signal(Signal::TERM);
    serving.log_line("draining");
    let answer = get(serving.admin, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("draining\n"), "{answer}");
    assert!(serving.child.try_wait().unwrap().is_none(), "the request is still running");
    serving.signal(Signal::INT);
    assert_eq!(serving.exit_code(), Some(130));
}

#[test]
fn signal_that_comes_twice_at_once_is_one() {
    let backend = TcpListener::bind("127.43.200.3:0").unwrap();
    let directory = manifests(backend.local_addr().unwrap(), "");
    let mut serving = Serving::start(&["--manifests", utf8(directory.path())]).ready();
    let mut client = TcpStream::connect(serving.http).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").unwrap();
    let mut upstream = accept(&backend);
    upstream.read_exact(&mut [0; 4]).unwrap();

    for _ in 0..3 {
        serving.signal(Signal::TERM);
        // Else the kernel makes one of them.
        serving.wait_for_delivery(Signal::TERM);
    }
    serving.log_line("draining");
    // The request that was running still gets its answer.
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    let mut answer = String::new();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhi"), "{answer}");
    assert_eq!(serving.exit_code(), Some(0));
}

#[test]
fn access_log_is_on_standard_output_alone() {
    let directory = manifests(nobody(), "");
    let mut serving = Serving::start(&["--manifests", utf8(directory.path())]).ready();
    let answer = exchange(serving.http, "GET /none?a=b HTTP/1.1\r\nHost: other.example.com\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    serving.signal(Signal::TERM);
    assert_eq!(serving.exit_code(), Some(0));
    let mut out = String::new();
    serving.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let line: Value = serde_json::from_str(out.trim_end()).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!((&line["status"], &line["reason"]), (&404.into(), &"no_route".into()));
    assert_eq!((&line["host"], &line["path"]), (&"other.example.com".into(), &"/none?a=b".into()));
}

#[test]
fn offline_and_live_say_the_same() {
    let directory = manifests(nobody(), BROKEN);
    let path = utf8(directory.path());
    let serving = Serving::start(&["--manifests", path]).ready();
    let admin = format!("http://{}", serving.admin);
    for (command, part) in [
        (&["routes"][..], "shop.example.com"),
        (&["routes", "--output", "json"], "shop.example.com"),
        (&["explain", "http://shop.example.com/cart/7?x=y"], "shop/web"),
        (&["explain", "https://SHOP.example.com:443/%63art"], "/cart"),
        (&["explain", "http://shop.example.com/", "--method", "TRACE"], "405"),
        (&["explain", "http://127.0.0.1/", "--header", "Host: broken.example.com"], "503"),
        (&["explain", "http://nowhere.example.com/"], "404"),
    ] {
        let offline = run(&[command, &["--manifests", path]].concat());
        let live = run(&[command, &["--admin", &admin]].concat());
        assert_eq!((offline.status.code(), live.status.code()), (Some(0), Some(0)), "{command:?}: {}", text(&live.stderr));
        assert_eq!(text(&offline.stdout), text(&live.stdout), "{command:?}");
        assert!(text(&live.stdout).contains(part), "{command:?}: {}", text(&live.stdout));
    }
}

#[test]
fn ready_says_whether_requests_are_served() {
    let directory = manifests(nobody(), "");
    let serving = Serving::start(&["--manifests", utf8(directory.path())]).ready();
    let admin = format!("http://{}", serving.admin);
    // As soon as the workers run: the page knows a moment before.
    let output = run(&["ready", "--admin", &admin]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "ok\n"), "{}", text(&output.stderr));
    drop(serving);
    assert_refused(&run(&["ready", "--admin", &admin]), "can't ask");
}

#[test]
fn check_prints_findings_and_fails_on_errors_only() {
    for (more, code, parts) in
        [("", 0, &["1 Ingress, 0 errors, 0 warnings"][..]), (BROKEN, 1, &["error[", "shop/broken", "2 Ingresses, 1 error, 0 warnings"])]
    {
        let directory = manifests(nobody(), more);
        let output = run(&["check", "--manifests", utf8(directory.path())]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
        for part in parts {
            assert!(text(&output.stdout).contains(part), "{part}: {}", text(&output.stdout));
        }
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn reader_that_has_seen_enough_is_no_error() {
    let directory = manifests(nobody(), "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = nodegate(&["routes", "--manifests", utf8(directory.path())]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}
