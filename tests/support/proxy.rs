//! The proxy under test: the library's own data plane with one worker, a table compiled from YAML, and its access log at hand.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nodegate::{
    access_log,
    compile::{Diagnostic, Options, compile},
    config::limits::Limits,
    message::Trust,
    metrics::Numbers,
    proxy::{self, MinVersion, Settings},
    source, table,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{Backend, GET, Message, PATIENCE, Wire};

/// A running proxy. Dropping it stops it.
pub struct Proxy {
    /// Where it listens: the first of [`Self::addresses`].
    pub address: SocketAddr,
    /// Every address that it listens on.
    pub addresses: Vec<SocketAddr>,
    handle: proxy::Handle,
    publisher: table::Publisher,
    directory: TempDir,
    /// Records of the access log that the test has seen.
    seen: usize,
    log: Option<access_log::Writer>,
}

impl Proxy {
    /// With default settings, routing by these manifests.
    pub fn start(manifests: &str) -> Self {
        Self::with(manifests, |_| {})
    }

    /// With settings of the test's own.
    pub fn with(manifests: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let mut proxy = Self::without_table(change);
        proxy.publish(manifests);
        proxy
    }

    /// With settings of the test's own, before its first table.
    pub fn without_table(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            http: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            https: Vec::new(),
            h2c: Vec::new(),
            http2: true,
            tls_min_version: MinVersion::Tls12,
            workers: 1,
            trust: Trust::parse(&[], None).unwrap(),
            proxy_protocol: None,
            allow_peers: None,
            server_header: true,
            allow_unsafe_external: false,
            limits: Limits::default(),
        };
        change(&mut settings);
        let directory = tempfile::tempdir().unwrap();
        let (publisher, reader) = table::channel();
        let (locals, log) = access_log::start(access_log::Output::File(directory.path().join("access.log")), settings.workers).unwrap();
        let bound = proxy::bind(settings).unwrap();
        let addresses = bound.addresses();
        let handle = bound.start(&reader, locals).unwrap();
        Self { address: addresses[0], addresses, handle, publisher, directory, seen: 0, log: Some(log) }
    }

    /// One backend for every host and path.
    pub fn to(backend: SocketAddr) -> Self {
        Self::start(&manifest(&[("", "/", backend)]))
    }

    /// As [`Self::to`], with settings of the test's own.
    pub fn to_with(backend: SocketAddr, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(&manifest(&[("", "/", backend)]), change)
    }

    /// Puts another table in force, of manifests that are as they should be.
    #[track_caller]
    pub fn publish(&mut self, manifests: &str) {
        let diagnostics = self.publish_despite(manifests);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
    }

    /// Puts another table in force, and returns what is wrong with it.
    pub fn publish_despite(&mut self, manifests: &str) -> Vec<Diagnostic> {
        self.publish_with(manifests, &Options::default())
    }

    /// As [`Self::publish_despite`], compiled with options of the test's own.
    pub fn publish_with(&mut self, manifests: &str, options: &Options) -> Vec<Diagnostic> {
        let path = self.directory.path().join("manifests.yaml");
        fs::write(&path, manifests).unwrap();
        let (objects, mut diagnostics) = source::load(&[path]).unwrap();
        let compiled = compile(&objects, options);
        self.publisher.publish(compiled.snapshot);
        diagnostics.extend(compiled.diagnostics);
        diagnostics
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn exchange(&self, request: impl AsRef<[u8]>) -> Message {
        self.connect().exchange(request)
    }

    /// The client's and the backend's end of a `GET` that the backend has received and not answered.
    #[track_caller]
    pub fn begin(&self, backend: &Backend) -> (Wire, Wire) {
        let mut client = self.connect();
        client.send(GET);
        let mut upstream = backend.accept();
        upstream.message();
        (client, upstream)
    }

    /// `GET path` for `host`.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Message {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// The next record of the access log.
    #[track_caller]
    pub fn record(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(self.log_path()).unwrap_or_default();
            let complete = log.rsplit_once('\n').map_or("", |(complete, _)| complete);
            if let Some(line) = complete.lines().nth(self.seen) {
                self.seen += 1;
                return serde_json::from_str(line).unwrap();
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for record {} of the access log:\n{log}", self.seen);
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// The first worker's numbers.
    pub fn numbers(&self) -> Numbers {
        self.numbers_of_each().remove(0)
    }

    /// Every worker's numbers.
    pub fn numbers_of_each(&self) -> Vec<Numbers> {
        let (numbers, missing) = block_on(self.handle.numbers());
        assert_eq!(missing, 0, "a worker doesn't answer");
        numbers
    }

    /// Waits until the worker's numbers are as they should be.
    #[track_caller]
    pub fn wait_for(&self, as_expected: impl Fn(&Numbers) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let numbers = self.numbers();
            if as_expected(&numbers) {
                return;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for the numbers: {numbers:?}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Begins to drain.
    pub fn drain(&self, grace: Duration) {
        self.handle.drain(grace);
    }

    /// Waits until every worker has ended. True if that took no longer than `within`.
    pub fn drained(&self, within: Duration) -> bool {
        block_on(async { tokio::time::timeout(within, self.handle.drained()).await.is_ok() })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.handle.drain(Duration::ZERO);
        if let Some(log) = self.log.take() {
            log.finish(Duration::from_millis(100));
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// An Ingress and a Service for each `(host, path, backend)`; without a host the rule is for all of them.
pub fn manifest(routes: &[(&str, &str, SocketAddr)]) -> String {
    let mut yaml = String::new();
    for (index, (host, path, backend)) in routes.iter().enumerate() {
        let host = if host.is_empty() { String::new() } else { format!("host: \"{host}\", ") };
        let (ip, port) = (backend.ip(), backend.port());
        write!(
            yaml,
            "---
apiVersion: v1
kind: Service
metadata: {{ name: service-{index}, namespace: tests }}
spec: {{ clusterIP: {ip}, ports: [{{ port: {port} }}] }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: ingress-{index}, namespace: tests }}
spec:
  ingressClassName: nodegate
  rules:
    - {{ {host}http: {{ paths: [{{ path: {path}, pathType: Prefix, backend: {{ service: {{ name: service-{index}, port: {{ number: {port} }} }} }} }}] }} }}
"
        )
        .unwrap();
    }
    yaml
}
