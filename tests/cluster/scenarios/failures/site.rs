//! What the faults happen to: Nodegate on every node, as shipped with a copy of the cluster's objects on its disk, and a Service with one pod on each.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    http::{self, Answer},
    install::{self, Installed},
    load::Load,
    node::Node,
    sample::{Sample, ingress, list, namespace},
    wait::{PATIENCE, eventually},
};

/// The site's host.
pub const HOST: &str = "failures.example";
/// Requests a second, from outside, over all three nodes.
const RATE: u32 = 30;
/// How long a pod that is deleted goes on answering, so that kube-proxy, which needs a second or more to hear of it, leads nobody to a pod that is gone.
const LINGER: Duration = Duration::from_secs(5);

/// Nodegate and the pods.
pub struct Site<'a> {
    pub cluster: &'a Cluster,
    pub targets: Vec<SocketAddr>,
    installed: Installed,
}

/// Answers as the node that it is on.
pub const WEB: Sample<'_> = Sample { namespace: "failures", name: "web", port: 8000, answers_as: "$(NODE)" };

impl<'a> Site<'a> {
    /// Installs everything, and waits until each node answers.
    pub async fn create(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let installed = install::nodegate(cluster, "overlays/state", &[]).await?;
        cluster.apply(&list(&[namespace(WEB.namespace), deployment(), WEB.service(80), ingress(WEB.namespace, "web", HOST, WEB.name)]))?;
        cluster.rolled_out("failures", "web", PATIENCE).await?;
        cluster.serves(HOST).await?;
        Ok(Self { cluster, targets: cluster.doors(80), installed })
    }

    /// Leaves nothing of it.
    pub fn remove(self) -> anyhow::Result<()> {
        self.cluster.delete_namespace("failures")?;
        install::uninstall(self.cluster, self.installed)
    }

    /// Waits until an Ingress has a node's address in its status, or hasn't.
    pub async fn in_status(&self, ingress: &str, node: &Node, wanted: bool) -> anyhow::Result<()> {
        let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
        eventually(&format!("the status of {ingress} names {}: {wanted}", node.name), PATIENCE, async || {
            let addresses = self.cluster.kubectl(&["get", "ingress", ingress, "--namespace=failures", "--output", path])?;
            let named = addresses.split_whitespace().any(|address| address == node.address.to_string());
            ensure!(named == wanted, "it has {addresses}");
            Ok(())
        })
        .await
    }

    /// A load on every node.
    pub fn load(&self, host: &str) -> Load {
        Load::start(&self.cluster.internet, &self.targets, host, RATE)
    }

    /// One request from outside.
    pub fn get(&self, target: SocketAddr, host: &str) -> anyhow::Result<Answer> {
        self.cluster.internet.within_async(async || http::get(target, host, "/").await)
    }
}

/// One pod on each node.
fn deployment() -> Value {
    let mut object = WEB.deployment(3);
    let pod = &mut object["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = json!(LINGER.as_secs() + 3);
    if let Some(arguments) = pod["containers"][0]["args"].as_array_mut() {
        arguments.extend([json!("--linger-ms"), json!(LINGER.as_millis().to_string())]);
    }
    object
}
