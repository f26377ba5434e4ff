//! A copy of etcd's data, and a cluster that is set back to it: what was written since has never happened, and resource versions begin again from where they were.

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::ListParams};

use crate::{cluster::Cluster, control_plane::ETCD, following, wait::PATIENCE};

/// Beside etcd's own directory, on the first node.
const COPY: &str = "/var/lib/etcd.backup";

/// The data as it was, until it is put back.
#[derive(Debug)]
#[must_use = "a copy that nobody puts back stays on the node"]
pub struct Backup {
    /// What the cluster's resource version was before it was taken.
    pub version: u64,
}

impl Backup {
    /// Takes a copy of a cluster that runs. etcd is held meanwhile, for some milliseconds: its files are then as after a loss of power, which it is made for.
    pub async fn take(cluster: &Cluster) -> anyhow::Result<Self> {
        let version = version(cluster).await?;
        cluster.control_plane.etcd.held(|| cluster.node(1).run(&["cp", "--archive", "--no-target-directory", ETCD, COPY]));
        Ok(Self { version })
    }

    /// Stops the control plane, sets its data back, and starts it again. What else follows the cluster is still to be told: [`restart_followers`].
    pub async fn put_back(self, cluster: &Cluster) -> anyhow::Result<()> {
        cluster.stop_control_plane();
        cluster.node(1).run(&["sh", "-c", &format!("rm -r {ETCD} && mv {COPY} {ETCD}")]);
        cluster.restart_control_plane().await
    }
}

/// The resource version of the cluster's latest change.
pub async fn version(cluster: &Cluster) -> anyhow::Result<u64> {
    let list = Api::<Namespace>::all(cluster.client()).list(&ListParams::default().limit(1)).await?;
    let version = list.metadata.resource_version.context("a list without a resource version")?;
    version.parse().with_context(|| format!("resource version {version}"))
}

/// Starts what follows the cluster from its nodes anew, as Kubernetes' documentation asks for after such a thing, and cluster DNS. A watch of theirs goes on from a
/// version that is still to come, and tells nothing until it has come. (The controllers and the scheduler have been started with the API server. Nodegate is to see
/// to itself.)
pub async fn restart_followers(cluster: &Cluster) -> anyhow::Result<()> {
    following::restart_on_nodes(cluster).await?;
    cluster.rollout("kube-system", "deployment/coredns", &["restart"])?;
    cluster.rolled_out("kube-system", "coredns", PATIENCE).await
}
