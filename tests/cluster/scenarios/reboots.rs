//! A node loses its power while there is no control plane: what it needs nobody for is back with it, and everything else once it is told.

use std::{fs, net::SocketAddr, path::PathBuf, time::Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{self, Pod};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, is_ready},
    following,
    http::{self, Answer},
    images::ECHO,
    node::Node,
    sample::{Sample, list, namespace},
    wait::{PATIENCE, eventually},
};

const NAMESPACE: &str = "reboots";
/// On each node's own address, and behind the overlay.
const HOST: Sample<'_> = Sample { namespace: NAMESPACE, name: "host", port: 18000, answers_as: "$(NODE)" };
const PODS: Sample<'_> = Sample { name: "pods", port: 8000, ..HOST };
/// Of the pod that no API server is needed for.
const STATIC: u16 = 18001;

pub async fn reboots(cluster: &Cluster) -> anyhow::Result<()> {
    let node = cluster.node(3);
    cluster.apply(&list(&[namespace(NAMESPACE), HOST.daemon_set(true), PODS.deployment(cluster.nodes.len())]))?;
    ordinary_pods_run(cluster, node).await?;
    let pod = StaticPod::place(node, &static_pod())?;
    answers(cluster, node, STATIC).await?;
    cluster.stop_control_plane();
    let during = power_is_lost(cluster, node).await;
    cluster.restart_control_plane().await?;
    during?;
    let back = Instant::now();
    ordinary_pods_run(cluster, node).await?;
    println!("reboots: all pods of {} run again {:.1} s after the control plane's return", node.name, back.elapsed().as_secs_f32());
    // The other nodes' kubelets would hear of the end only when they try again.
    following::restart_on_nodes(cluster).await?;
    pod.remove(cluster).await?;
    cluster.delete_namespace(NAMESPACE)
}

/// Off, and on again.
async fn power_is_lost(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    node.power_off();
    let silent = [STATIC, HOST.port].map(|port| ask(cluster, node, port).is_err());
    let on = Instant::now();
    node.power_on();
    ensure!(silent == [true; 2], "{} answers without power", node.name);
    answers(cluster, node, STATIC).await?;
    println!(
        "reboots: the static pod of {} answers {:.1} s after the power is back, without an API server",
        node.name,
        on.elapsed().as_secs_f32()
    );
    // So it has died, and no kubelet has been told of it.
    ensure!(ask(cluster, node, HOST.port).is_err(), "a DaemonSet's pod runs on {} before the kubelet can know of it", node.name);
    Ok(())
}

/// Waits until the node is ready, and the pods on it answer. What the API server says of them may be of before.
async fn ordinary_pods_run(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    answers(cluster, node, HOST.port).await?;
    let nodes: Api<v1::Node> = Api::all(cluster.client());
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let here = ListParams::default().labels(&format!("app={}", PODS.name)).fields(&format!("spec.nodeName={}", node.name));
    eventually(&format!("a pod of {} answers over the overlay", node.name), PATIENCE, async || {
        let pod = pods.list(&here).await?.items.pop().context("no pod")?;
        let address = pod.status.and_then(|status| status.pod_ip).context("a pod without an address")?;
        let pod = SocketAddr::new(address.parse()?, PODS.port);
        let answer = cluster.node(1).namespace.within_async(async || http::get(pod, "reboots.example", "/").await)?;
        ensure!(answer.status == 200, "answered with {answer}");
        ensure!(is_ready(&nodes.get(&node.name).await?), "{} isn't ready", node.name);
        Ok(())
    })
    .await?;
    cluster.rollout(NAMESPACE, "daemonset/host", &["status", "--timeout=180s"])?;
    cluster.rolled_out(NAMESPACE, PODS.name, PATIENCE).await
}

/// Waits until this port of a node answers clients.
async fn answers(cluster: &Cluster, node: &Node, port: u16) -> anyhow::Result<()> {
    eventually(&format!("port {port} of {} answers", node.name), PATIENCE, async || {
        let answer = ask(cluster, node, port)?;
        ensure!(answer.status == 200, "answered with {answer}");
        Ok(())
    })
    .await
}

fn ask(cluster: &Cluster, node: &Node, port: u16) -> anyhow::Result<Answer> {
    cluster.internet.within_async(async || http::get((node.address, port).into(), "reboots.example", "/").await)
}

/// A pod that a node runs because a file says so.
struct StaticPod<'a> {
    node: &'a Node,
    file: PathBuf,
}

impl<'a> StaticPod<'a> {
    fn place(node: &'a Node, manifest: &Value) -> anyhow::Result<Self> {
        let file = node.static_pods().join("pod.json");
        fs::write(&file, manifest.to_string())?;
        Ok(Self { node, file })
    }

    /// Takes it away, and waits until the kubelet has.
    async fn remove(self, cluster: &Cluster) -> anyhow::Result<()> {
        fs::remove_file(&self.file)?;
        let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
        let of_a_file = ListParams::default().labels("static=true");
        eventually(&format!("{} has no static pod", self.node.name), PATIENCE, async || {
            let left = pods.list(&of_a_file).await?.items.len();
            ensure!(left == 0 && ask(cluster, self.node, STATIC).is_err(), "{left} pods of it");
            Ok(())
        })
        .await
    }
}

fn static_pod() -> Value {
    let container = json!({
        "name": "echo", "image": ECHO, "imagePullPolicy": "Never",
        "args": ["--listen", format!("0.0.0.0:{STATIC}"), "--name", "static"],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "static", "namespace": NAMESPACE, "labels": { "static": "true" } },
        "spec": { "hostNetwork": true, "terminationGracePeriodSeconds": 1, "containers": [container] },
    })
}
