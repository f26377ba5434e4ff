//! A running cluster: what scenarios are given to work with.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use k8s_openapi::api::{apps::v1::Deployment, core::v1};
use kube::{
    Api, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    control_plane::ControlPlane,
    credentials::Credentials,
    dns, following, images,
    namespace::Namespace,
    network,
    node::Node,
    tools,
    wait::{PATIENCE, eventually},
};

/// Where the work directory is inside the sandbox: in memory, and every node sees it.
pub const WORK: &str = "/run/nodegate-e2e";
/// Where daemons write their logs.
pub const LOGS: &str = "/run/nodegate-e2e/logs";

/// A machine that is busy with other things takes ten times as long as an idle one.
const UP: Duration = Duration::from_mins(3);

/// For each request of a kubectl that wasn't told how long it may take; an answer takes milliseconds.
const REQUEST_TIMEOUT: &str = "--request-timeout=60s";

/// Nodes with a control plane on the first, and a namespace of clients outside.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Clients: 203.0.113.10 to .19 behind a router, no Kubernetes.
    pub internet: Namespace,
    pub control_plane: ControlPlane,
    client: kube::Client,
    binaries: PathBuf,
    kubeconfig: String,
}

impl Cluster {
    /// Brings one up, with cluster DNS, and waits until every node is ready.
    pub async fn up(nodes: u8) -> anyhow::Result<Self> {
        let binaries = images::kubernetes();
        let began = Instant::now();
        let work = make_work_directory();
        let credentials = Credentials::create(&work, nodes);
        network::set_up_router();
        let internet = network::set_up_internet();
        let nodes: Vec<Node> = (1..=nodes).map(|number| Node::create(number, nodes, &binaries, &credentials, &work)).collect();
        let control_plane = ControlPlane::new(&nodes[0].namespace, &binaries, &credentials, Path::new(LOGS));
        control_plane.etcd.start();
        control_plane.api_server.start();
        let kubeconfig = credentials.kubeconfig("admin");
        let client = client(&kubeconfig).await?;
        let cluster = Self { nodes, internet, control_plane, client, binaries, kubeconfig };
        thread::scope(|scope| {
            for node in &cluster.nodes {
                scope.spawn(|| node.start());
            }
            // In the meantime.
            cluster.start_control_plane()
        })?;
        cluster.wait_until_ready().await?;
        println!("cluster: {} nodes up in {:.1} s", cluster.nodes.len(), began.elapsed().as_secs_f32());
        Ok(cluster)
    }

    /// A client with every right.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Node `number`, counted from 1. The control plane is on the first.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// This port of every node.
    pub fn doors(&self, port: u16) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| (node.address, port).into()).collect()
    }

    /// Waits until a backend answers for the host on :80 of every node.
    pub async fn serves(&self, host: &str) -> anyhow::Result<()> {
        for door in self.doors(80) {
            eventually(&format!("{host} is served on {door}"), PATIENCE, async || {
                let answer = self.internet.within_async(async || crate::http::get(door, host, "/").await)?;
                ensure!(answer.status == 200 && answer.backend().is_some(), "answered with {answer}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Runs kubectl with every right. Its standard output; an error with everything it said if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// A kubeconfig with every right.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// As [`Self::kubectl`], with something on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = Command::new(self.binaries.join("kubectl"));
        command.args(["--kubeconfig", &self.kubeconfig]);
        // It ends a wait's watch, not the wait, so it is for those without a limit of their own.
        if !arguments.iter().any(|argument| argument.starts_with("--timeout=")) {
            command.arg(REQUEST_TIMEOUT);
        }
        let output = tools::feed(command.args(arguments), input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "kubectl {} failed ({}): {}{}",
            arguments.join(" "),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// `kubectl rollout VERB` of an object such as `deployment/web`.
    pub fn rollout(&self, namespace: &str, object: &str, verb: &[&str]) -> anyhow::Result<()> {
        self.kubectl(&[&["rollout"], verb, &[object, &format!("--namespace={namespace}")]].concat()).map(drop)
    }

    /// `kubectl apply` of one or more YAML documents.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.kubectl_with(&["apply", "--filename", "-"], yaml).map(drop)
    }

    /// Deletes a namespace, and waits until nothing of it is left.
    pub fn delete_namespace(&self, name: &str) -> anyhow::Result<()> {
        self.kubectl(&["delete", "namespace", name, "--timeout=180s"]).map(drop)
    }

    /// Loads an image that nodes don't have from the start, [`images::TRAEFIK`] say, into every one.
    pub fn load(&self, image: &str) {
        thread::scope(|scope| {
            for node in &self.nodes {
                scope.spawn(|| node.load(image));
            }
        });
    }

    /// The shell words that let a person outside look into this cluster.
    pub fn look_inside(&self) -> String {
        let enter = format!("nsenter --target $(pgrep --parent {}) --mount --net", crate::sandbox::outer_pid());
        let kubectl = self.binaries.join("kubectl");
        let node = self.node(1).namespace.prefix();
        format!(
            "  kubectl:  {enter} {} --kubeconfig {} get pods --all-namespaces\n  a node:   {enter} {} bash   (n1)\n  clients:  {enter} {} bash\n  logs:     {LOGS} in there",
            kubectl.display(),
            self.kubeconfig,
            node.join(" "),
            self.internet.prefix().join(" "),
        )
    }

    /// Kills the API server.
    pub fn stop_api_server(&self) {
        self.control_plane.api_server.stop();
    }

    /// Starts the API server again, and waits until it is ready, and the controllers and the scheduler follow it again if they run.
    pub async fn start_api_server(&self) -> anyhow::Result<()> {
        self.control_plane.api_server.start();
        eventually("the API server is ready", UP, async || {
            self.control_plane.check().map_err(anyhow::Error::msg)?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            anyhow::Ok(self.client.request_text(request).await?)
        })
        .await?;
        following::roles_are_known(&self.client, UP).await?;
        if self.control_plane.restart_followers() {
            following::are_back(&self.client, UP).await?;
        }
        Ok(())
    }

    /// Kills all of the control plane: nobody can ask or tell anything any more, and what runs on the nodes runs on.
    pub fn stop_control_plane(&self) {
        let ControlPlane { etcd, api_server, manager, scheduler } = &self.control_plane;
        for daemon in [manager, scheduler, api_server, etcd] {
            daemon.stop();
        }
    }

    /// Starts it again, and waits until it is ready, and follows.
    pub async fn restart_control_plane(&self) -> anyhow::Result<()> {
        self.control_plane.etcd.start();
        self.start_api_server().await?;
        self.control_plane.manager.start();
        self.control_plane.scheduler.start();
        following::are_back(&self.client, UP).await
    }

    /// Waits until a Deployment has all its pods, new ones only, and all ready.
    pub async fn rolled_out(&self, namespace: &str, deployment: &str, within: Duration) -> anyhow::Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client(), namespace);
        eventually(&format!("deployment {namespace}/{deployment} is rolled out"), within, async || {
            let found = deployments.get(deployment).await?;
            let wanted = found.spec.replicas.unwrap_or(1);
            let status = found.status.clone().unwrap_or_default();
            let counts = [status.replicas, status.updated_replicas, status.available_replicas].map(Option::unwrap_or_default);
            anyhow::ensure!(
                status.observed_generation == found.metadata.generation && counts == [wanted; 3],
                "{counts:?} of {wanted} pods"
            );
            Ok(())
        })
        .await
    }

    /// From the thread of a runtime that waits anyway.
    fn start_control_plane(&self) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.start_api_server()))?;
        self.control_plane.manager.start();
        self.control_plane.scheduler.start();
        self.apply(&dns::manifests())
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let nodes: Api<v1::Node> = Api::all(self.client());
        eventually("all nodes are ready", UP, async || {
            self.control_plane.check().map_err(anyhow::Error::msg)?;
            self.nodes.iter().try_for_each(Node::check).map_err(anyhow::Error::msg)?;
            let found = nodes.list(&kube::api::ListParams::default()).await?;
            let ready = found.items.iter().filter(|node| is_ready(node)).count();
            anyhow::ensure!(ready == self.nodes.len(), "{ready} of {} nodes", self.nodes.len());
            Ok(())
        })
        .await?;
        self.rolled_out("kube-system", "coredns", UP).await
    }
}

/// Whether the control plane counts a node in.
pub fn is_ready(node: &v1::Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

/// A file system in memory over /run: nothing of the machine's services is in reach, and nothing is left to remove.
fn make_work_directory() -> PathBuf {
    tools::run(Command::new("mount").args(["--make-rprivate", "/"]));
    tools::run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "nodegate-e2e", "/run"]));
    let work = PathBuf::from(WORK);
    fs::create_dir_all(LOGS).expect("a directory in memory");
    work
}

async fn client(kubeconfig: &str) -> anyhow::Result<kube::Client> {
    let mut config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}
