//! What changes, and who looks on: Nodegate on every node, as shipped with a copy of the cluster's objects on its disk, and a Service with three pods that leave
//! as Kubernetes recommends it.

use std::{fs, net::SocketAddr};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use crate::{
    cluster::Cluster,
    install::{self, Installed},
    load::Load,
    node::Node,
    sample::{Sample, ingress, is_ready, list, namespace},
    wait::{PATIENCE, eventually},
};

/// The host that nothing is to happen to.
pub const HOST: &str = "changes.example";
pub const NAMESPACE: &str = "changes";
/// Each pod answers with its own name.
pub const WEB: Sample<'_> = Sample { namespace: NAMESPACE, name: "web", port: 8000, answers_as: "$(POD)" };
const PODS: usize = 3;

/// Nodegate and the pods.
pub struct Site<'a> {
    pub cluster: &'a Cluster,
    pub targets: Vec<SocketAddr>,
    installed: Installed,
}

impl<'a> Site<'a> {
    /// Installs everything, and waits until each node answers.
    pub async fn create(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let installed = install::nodegate(cluster, "overlays/state", &[]).await?;
        cluster.apply(&list(&[
            namespace(NAMESPACE),
            WEB.leaving_in_peace(PODS),
            WEB.service(80),
            ingress(NAMESPACE, WEB.name, HOST, WEB.name),
        ]))?;
        cluster.rolled_out(NAMESPACE, WEB.name, PATIENCE).await?;
        cluster.serves(HOST).await?;
        Ok(Self { cluster, targets: cluster.doors(80), installed })
    }

    /// Leaves nothing of it.
    pub fn remove(self) -> anyhow::Result<()> {
        self.cluster.delete_namespace(NAMESPACE)?;
        install::uninstall(self.cluster, self.installed)
    }

    /// The pods that answer, those included that are to stop.
    pub async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        Ok(pods.list(&ListParams::default().labels(&format!("app={}", WEB.name))).await?.items)
    }

    /// Waits until three new pods are ready, and the others are gone.
    pub async fn is_whole(&self) -> anyhow::Result<()> {
        self.cluster.rolled_out(NAMESPACE, WEB.name, PATIENCE).await?;
        // The Deployment's account may be older than what has become of a pod.
        eventually("the old pods are gone, and all others ready", PATIENCE, async || {
            let pods = self.pods().await?;
            let ready = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).count();
            ensure!([pods.len(), ready] == [PODS; 2], "there are {}, {ready} of them ready", pods.len());
            Ok(())
        })
        .await
    }

    /// A load on every node, of so many requests a second in all.
    pub fn load(&self, rate: u32) -> Load {
        Load::start(&self.cluster.internet, &self.targets, HOST, rate)
    }
}

/// What a node's Nodegate has said so far.
pub fn log(node: &Node) -> anyhow::Result<String> {
    let mut log = String::new();
    for pod in fs::read_dir(node.pod_logs())? {
        let pod = pod?;
        if pod.file_name().to_string_lossy().starts_with(&format!("{}_", install::NAMESPACE)) {
            let files = fs::read_dir(pod.path().join("nodegate")).with_context(|| format!("the log of {}", pod.path().display()))?;
            let files = files.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<_>>>()?;
            // One for each start of the container; older parts of a long one are compressed.
            for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "log")) {
                log += &fs::read_to_string(file)?;
            }
        }
    }
    Ok(log)
}
