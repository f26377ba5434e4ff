//! What is upgraded: Nodegate on every node, as shipped, and a Service with one pod on each.

use std::net::SocketAddr;

use crate::{
    cluster::Cluster,
    install::{self, Installed},
    sample::{Sample, ingress, list, namespace},
    wait::PATIENCE,
};

/// The site's host.
pub const HOST: &str = "upgrades.example";
/// Answers as the node that it is on.
pub const WEB: Sample<'_> = Sample { namespace: "upgrades", name: "web", port: 8000, answers_as: "$(NODE)" };

/// The pods, and Nodegate in front of them.
pub struct Site<'a> {
    pub bare: Bare<'a>,
    installed: Installed,
}

/// The pods, with nobody in front of them.
pub struct Bare<'a> {
    pub cluster: &'a Cluster,
    pub targets: Vec<SocketAddr>,
}

impl<'a> Site<'a> {
    /// Installs everything, and waits until each node answers.
    pub async fn create(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let deployment = WEB.deployment(cluster.nodes.len());
        cluster.apply(&list(&[namespace(WEB.namespace), deployment, WEB.service(80), ingress(WEB.namespace, "web", HOST, WEB.name)]))?;
        let installed = install::nodegate(cluster, "base", &[]).await?;
        cluster.rolled_out(WEB.namespace, WEB.name, PATIENCE).await?;
        cluster.serves(HOST).await?;
        let site = Self { bare: Bare { cluster, targets: cluster.doors(80) }, installed };
        // Within `minReadySeconds` a pod isn't available yet, and the controller replaces such ones on all nodes at once.
        install::rollout(cluster, &["status", "--timeout=60s"])?;
        Ok(site)
    }

    /// Removes Nodegate alone.
    pub fn uninstall(self) -> anyhow::Result<Bare<'a>> {
        install::uninstall(self.bare.cluster, self.installed)?;
        Ok(self.bare)
    }
}

impl Bare<'_> {
    /// Leaves nothing of it.
    pub fn remove(self) -> anyhow::Result<()> {
        self.cluster.delete_namespace(WEB.namespace)
    }
}
