//! A control plane of one etcd and one kube-apiserver, on a loopback address of its own, with RBAC and an audit log of what Nodegate asks.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{runtime, task::block_in_place};

use super::{Client, directory::Directory, eventually, objects, process::Process};

/// The name of what the rig grants: not that of the shipped role.
const ROLE: &str = "nodegate-of-the-tests";

/// Everything that Nodegate may read, as (API group, resource): what its ClusterRole grants.
pub const WATCHED: [(&str, &str); 4] =
    [("networking.k8s.io", "ingresses"), ("networking.k8s.io", "ingressclasses"), ("", "services"), ("discovery.k8s.io", "endpointslices")];

/// Everything else that Nodegate may do: (API group, resource, verbs).
const WRITTEN: [(&str, &str, &[&str]); 5] = [
    ("", "events", &["create", "patch"]),
    ("coordination.k8s.io", "leases", &["get", "create", "update", "patch", "list"]),
    ("networking.k8s.io", "ingresses/status", &["patch"]),
    ("", "pods", &["list", "watch"]),
    ("", "nodes", &["list", "watch"]),
];

/// Only Nodegate's requests are worth the disk.
const AUDIT_POLICY: &str = r#"{ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [
    { "level": "Metadata", "users": ["nodegate", "system:serviceaccount:nodegate-system:nodegate"], "omitStages": ["RequestReceived"] },
    { "level": "None" } ] }"#;

/// Token, user, uid, groups.
const TOKENS: &str = "test-token,test,1,system:masters\nnodegate-token,nodegate,2\n";

/// A running control plane. Fields are dropped in this order: the API server before its etcd, the files last.
#[derive(Debug)]
pub struct Cluster {
    api: Option<Process>,
    etcd: Option<Process>,
    addresses: Addresses,
    binaries: PathBuf,
    directory: Directory,
    flags: &'static [&'static str],
}

#[derive(Debug)]
struct Addresses {
    api: SocketAddr,
    etcd: SocketAddr,
    etcd_peer: SocketAddr,
}

impl Cluster {
    /// Starts one and waits until it is ready. Call it on the test's own thread ([`Process::start`]).
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Cluster::start`], with more flags for the API server.
    pub async fn start_with(flags: &'static [&'static str]) -> Self {
        let binaries = binaries();
        let directory = Directory::create("cluster");
        let ip = next_host_ip();
        let addresses = Addresses { api: free_port(ip), etcd: free_port(ip), etcd_peer: free_port(ip) };
        write_credentials(&directory, ip);
        let etcd = Some(start_etcd(&binaries, &addresses, &directory));
        let mut cluster = Self { api: None, etcd, addresses, binaries, directory, flags };
        cluster.start_api().await;
        cluster.grant(&WATCHED).await;
        let (role, subjects) = (
            json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE }),
            json!([{ "kind": "User", "name": "nodegate" }]),
        );
        let binding = json!({ "metadata": { "name": ROLE }, "roleRef": role, "subjects": subjects });
        objects::create_cluster_wide::<ClusterRoleBinding>(&cluster.client().await, &objects::object(binding)).await;
        cluster
    }

    /// One for all tests of this process that leave it as it is. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (send, receive) = mpsc::channel();
            // Its processes live as long as the thread that starts them: not one test's, then, but one that never ends.
            thread::spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                send.send(runtime.block_on(Self::start())).expect("the test that waits");
                loop {
                    thread::park();
                }
            });
            block_in_place(|| receive.recv()).expect("the shared control plane, which failed to start")
        })
    }

    /// A client with every right. One for each test: it belongs to the runtime it is made in.
    pub async fn client(&self) -> kube::Client {
        let file = self.kubeconfig("test", self.addresses.api);
        let kubeconfig = Kubeconfig::read_from(file).expect("our own kubeconfig");
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
        config.default_retry = false;
        kube::Client::try_from(config).expect("a client")
    }

    /// Where the API server listens.
    pub fn api_address(&self) -> SocketAddr {
        self.addresses.api
    }

    /// A kubeconfig with Nodegate's rights, for the API server or for a forwarder before it.
    pub fn nodegate_kubeconfig(&self, server: SocketAddr) -> PathBuf {
        self.kubeconfig("nodegate", server)
    }

    /// Makes exactly these resources readable for Nodegate, beside what [`WRITTEN`] says.
    pub async fn grant(&self, resources: &[(&str, &str)]) {
        self.grant_both(resources, &WRITTEN).await;
    }

    /// Takes the right to write `resource` from Nodegate, or with `None` gives all of them back.
    pub async fn revoke(&self, resource: Option<&str>) {
        let left: Vec<_> = WRITTEN.into_iter().filter(|(_, written, _)| Some(*written) != resource).collect();
        self.grant_both(&WATCHED, &left).await;
    }

    async fn grant_both(&self, resources: &[(&str, &str)], written: &[(&str, &str, &[&str])]) {
        let readable =
            |(group, resource): &(&str, &str)| json!({ "apiGroups": [group], "resources": [resource], "verbs": ["get", "list", "watch"] });
        let writable =
            |(group, resource, verbs): &(&str, &str, &[&str])| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
        let rules: Vec<Value> = resources.iter().map(readable).chain(written.iter().map(writable)).collect();
        let client = self.client().await;
        let existing = kube::Api::<ClusterRole>::all(client.clone());
        if existing.get_opt(ROLE).await.expect("an answer").is_some() {
            objects::change_cluster_wide::<ClusterRole>(&client, ROLE, json!({ "rules": rules })).await;
        } else {
            let role: ClusterRole = objects::object(json!({ "metadata": { "name": ROLE }, "rules": rules }));
            objects::create_cluster_wide(&client, &role).await;
        }
    }

    /// Starts the API server (again), on the same address and data, and waits until it is ready.
    pub async fn start_api(&mut self) {
        self.api = Some(start_api_server(&self.binaries, &self.addresses, self.flags, &self.directory));
        let client = self.client().await;
        eventually("the API server is ready", async || {
            self.etcd.as_mut().expect("started before").assert_runs();
            self.api.as_mut().expect("just started").assert_runs();
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            client.request_text(request).await
        })
        .await;
    }

    /// Ends the API server, as a crash would; etcd runs on.
    pub fn stop_api(&mut self) {
        self.api = None;
    }

    /// Ends the API server, puts a copy of etcd's data aside, and starts it again.
    pub async fn back_up(&mut self) {
        let (data, copy) = (self.directory.path().join("etcd"), self.directory.path().join("backup"));
        self.while_stopped(|| copy_all(&data, &copy)).await;
    }

    /// Ends the API server, and starts it again on what [`Cluster::back_up`] has put aside: nobody remembers what has happened since.
    pub async fn restore(&mut self) {
        let (data, copy) = (self.directory.path().join("etcd"), self.directory.path().join("backup"));
        self.while_stopped(|| {
            fs::remove_dir_all(&data).expect("etcd's data");
            copy_all(&copy, &data);
        })
        .await;
    }

    async fn while_stopped(&mut self, work: impl FnOnce()) {
        self.api = None;
        self.etcd = None;
        work();
        self.etcd = Some(start_etcd(&self.binaries, &self.addresses, &self.directory));
        self.start_api().await;
    }

    /// Makes etcd forget every revision but the newest, so that an API server started after it can't continue an older watch.
    pub async fn compact(&self) {
        let mut etcd = Client::new(self.addresses.etcd);
        let any_key = json!({ "key": "AA==" }).to_string();
        let answer = etcd.post("etcd", "/v3/kv/range", any_key).await.expect("etcd's answer");
        let answer: Value = serde_json::from_str(&answer.body).expect("JSON from etcd");
        let revision = &answer["header"]["revision"];
        let answer = etcd.post("etcd", "/v3/kv/compaction", json!({ "revision": revision, "physical": true }).to_string()).await;
        let answer = answer.expect("etcd's answer");
        assert_eq!(answer.status, 200, "compaction at revision {revision}: {answer}");
    }

    /// The status codes with which the API server answered Nodegate's requests for `resource`, lists and watches, since the start.
    pub fn answers_to_nodegate(&self, resource: &str) -> Vec<u64> {
        self.audit(resource).iter().filter_map(|event| event["responseStatus"]["code"].as_u64()).collect()
    }

    /// What the audit log tells of Nodegate's requests for `resource`, in the order of their ends.
    pub fn audit(&self, resource: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.directory.path().join("audit.log")).unwrap_or_default();
        // The last line may be half written.
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["objectRef"]["resource"] == resource).collect()
    }

    /// What kubectl prints, with every right.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let kubeconfig = self.kubeconfig("test", self.addresses.api);
        let mut command = Command::new(self.binaries.join("kubectl"));
        command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
        let output = block_in_place(|| command.output()).expect("kubectl");
        assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// An address out of the Service range that no other test of this process has.
    pub fn next_cluster_ip() -> Ipv4Addr {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        // 127.43.0.x are those that the API server hands out by itself, `kubernetes` for one.
        let [high, low] = (256 + NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
        Ipv4Addr::new(127, 43, high, low)
    }

    /// A kubeconfig with every right.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig("test", self.addresses.api)
    }

    /// A kubeconfig with that token.
    pub fn kubeconfig_of(&self, user: &str, token: &str) -> PathBuf {
        self.write_kubeconfig(user, token, self.addresses.api)
    }

    /// All of Nodegate's requests since the start, as audit events.
    pub fn requests(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.directory.path().join("audit.log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn kubeconfig(&self, user: &str, server: SocketAddr) -> PathBuf {
        self.write_kubeconfig(user, &format!("{user}-token"), server)
    }

    fn write_kubeconfig(&self, user: &str, token: &str, server: SocketAddr) -> PathBuf {
        let certificate = self.directory.path().join("api.crt");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": format!("https://{server}"), "certificate-authority": certificate } }],
            "users": [{ "name": user, "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
        });
        self.directory.write(&format!("{user}-{}.kubeconfig", server.port()), &kubeconfig.to_string())
    }
}

/// The directory with `etcd`, `kube-apiserver` and `kubectl`; builds them where this machine hasn't yet, which takes minutes.
fn binaries() -> PathBuf {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/build.sh");
        let output = Command::new(&script)
            .args(["kube-apiserver", "etcd", "kubectl"])
            .stderr(Stdio::inherit())
            .output()
            .expect("bash, for tests/kube/build.sh");
        assert!(output.status.success(), "{} failed ({}); it says above what is missing", script.display(), output.status);
        PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
    };
    BINARIES.get_or_init(build).clone()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("what is copied") {
        let entry = entry.expect("a part of it");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

/// A loopback address for one control plane: its ports are then nobody else's, outgoing connections included.
fn next_host_ip() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [.., high, low] = process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 64 + u8::try_from(number % 64).expect("below 64"), high, low)
}

fn free_port(ip: Ipv4Addr) -> SocketAddr {
    let listener = std::net::TcpListener::bind((ip, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// A certificate for the API server that is its own authority, a key pair for service-account tokens, tokens for two users, the audit policy.
fn write_credentials(directory: &Directory, ip: Ipv4Addr) {
    let made = rcgen::generate_simple_self_signed([ip.to_string()]).expect("a certificate");
    directory.write("api.crt", &made.cert.pem());
    directory.write("api.key", &made.signing_key.serialize_pem());
    let accounts = rcgen::KeyPair::generate().expect("a key");
    directory.write("accounts.key", &accounts.serialize_pem());
    directory.write("accounts.pub", &accounts.public_key_pem());
    directory.write("tokens.csv", TOKENS);
    directory.write("audit-policy.json", AUDIT_POLICY);
}

fn start_etcd(binaries: &Path, addresses: &Addresses, directory: &Directory) -> Process {
    let (client, peer) = (format!("http://{}", addresses.etcd), format!("http://{}", addresses.etcd_peer));
    let arguments = [
        "--data-dir=etcd".into(),
        // The data needn't survive the machine.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ];
    Process::start("etcd", &binaries.join("etcd"), arguments, &[], directory.path())
}

fn start_api_server(binaries: &Path, addresses: &Addresses, more: &[&str], directory: &Directory) -> Process {
    let mut arguments = Vec::new();
    let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    flag("etcd-servers", &format!("http://{}", addresses.etcd));
    flag("bind-address", &addresses.api.ip().to_string());
    flag("secure-port", &addresses.api.port().to_string());
    flag("tls-cert-file", "api.crt");
    flag("tls-private-key-file", "api.key");
    flag("service-cluster-ip-range", "127.43.0.0/16");
    // It can't advertise a loopback address, and without pods nobody needs to know any: a documentation address, not published.
    flag("advertise-address", "192.0.2.1");
    flag("endpoint-reconciler-type", "none");
    flag("token-auth-file", "tokens.csv");
    flag("authorization-mode", "RBAC");
    flag("service-account-issuer", "https://kubernetes.default.svc");
    flag("service-account-key-file", "accounts.pub");
    flag("service-account-signing-key-file", "accounts.key");
    flag("audit-policy-file", "audit-policy.json");
    flag("audit-log-path", "audit.log");
    arguments.extend(more.iter().map(ToString::to_string));
    Process::start("kube-apiserver", &binaries.join("kube-apiserver"), arguments, &[], directory.path())
}
