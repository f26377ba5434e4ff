//! What the faults happen to: Nodegate as shipped on every node, and a Service with one pod on each.

use std::{net::SocketAddr, time::Duration};

use crate::{
    cluster::Cluster,
    http::{self, Answer},
    install::{self, Installed},
    load::{Load, Tally},
    sample::{Sample, ingress, list, namespace},
    wait::PATIENCE,
};

/// The site's host.
pub const HOST: &str = "failures.example";
/// Requests a second, from outside, over all three nodes.
pub const RATE: u32 = 30;

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
        let installed = install::nodegate(cluster, "base", &[]).await?;
        cluster.apply(&list(&[
            namespace(WEB.namespace),
            WEB.deployment(3),
            WEB.service(80),
            ingress(WEB.namespace, "web", HOST, WEB.name),
        ]))?;
        cluster.rolled_out("failures", "web", PATIENCE).await?;
        cluster.serves(HOST).await?;
        Ok(Self { cluster, targets: cluster.doors(80), installed })
    }

    /// Leaves nothing of it.
    pub fn remove(self) -> anyhow::Result<()> {
        self.cluster.delete_namespace("failures")?;
        install::uninstall(self.cluster, self.installed)
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

/// What a load met, for a table.
pub fn account(tally: &Tally) -> String {
    let slowest = tally.slowest.as_secs_f32();
    if tally.failed.is_empty() {
        return format!("none of {} requests failed; the slowest took {slowest:.1} s", tally.sent);
    }
    let answered = tally.failed.iter().filter(|failure| failure.what.starts_with("504")).count();
    format!("{} of {} requests failed, {answered} of them with 504; the slowest took {slowest:.1} s", tally.failed.len(), tally.sent)
}

/// The part of a load that went to these targets failed nowhere.
pub fn spared(tally: &Tally, targets: &[SocketAddr]) -> anyhow::Result<()> {
    let failed = tally.failed.iter().find(|failure| targets.contains(&failure.target));
    failed.map_or(Ok(()), |failure| anyhow::bail!("this fault is none of {}: {failure}", failure.target))
}

/// When the last request that failed was sent, after the end of the fault; zero if none was.
pub fn recovery(tally: &Tally, ended: Duration) -> Duration {
    tally.failed.iter().map(|failure| failure.sent.saturating_sub(ended)).max().unwrap_or_default()
}
