//! What things happen to: Nodegate on every node with a copy of the cluster's objects on its disk, and a Service with three pods that leave as Kubernetes
//! recommends it.

use std::net::SocketAddr;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use super::super::lifecycle::process::Process;
use crate::{
    cluster::Cluster,
    install::{self, Installed},
    load::Load,
    sample::{Sample, ingress, list, namespace},
    wait::{PATIENCE, eventually},
};

pub const HOST: &str = "random.example";
pub const NAMESPACE: &str = "random";
pub const WEB: Sample<'_> = Sample { namespace: NAMESPACE, name: "web", port: 8000, answers_as: "$(POD)" };
const PODS: usize = 3;
/// How much more memory a new process may have, in percent of what a new one had at first.
pub const MORE_MEMORY: f64 = 5.0;
/// And beyond that, in MiB: how many pages two processes touch that have done the same differs by some dozens.
const NOISE: f64 = 1.0;
/// Requests that a process has answered when its memory is measured, and how many a second.
const MEASURED_AFTER: u32 = 600;
const RATE: u32 = 100;

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
        let site = Self { cluster, targets: cluster.doors(80), installed };
        // Within `minReadySeconds` a pod isn't available yet, and the controller replaces such ones on all nodes at once.
        site.rollout(&["status", "--timeout=60s"])?;
        Ok(site)
    }

    /// Leaves nothing of it.
    pub fn remove(self) -> anyhow::Result<()> {
        self.cluster.delete_namespace(NAMESPACE)?;
        install::uninstall(self.cluster, self.installed)
    }

    /// `kubectl rollout VERB` of Nodegate.
    pub fn rollout(&self, verb: &[&str]) -> anyhow::Result<()> {
        let namespace = format!("--namespace={}", install::NAMESPACE);
        self.cluster.kubectl(&[&["rollout"], verb, &["daemonset/nodegate", &namespace]].concat()).map(drop)
    }

    /// New processes on all nodes.
    pub async fn upgrade(&self) -> anyhow::Result<()> {
        self.rollout(&["restart"])?;
        self.rollout(&["status", "--timeout=180s"])?;
        install::rolled_out(self.cluster).await
    }

    /// The pods that answer, those included that are to stop.
    pub async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        self.pods_in(NAMESPACE, &format!("app={}", WEB.name)).await
    }

    /// Waits until as many pods are ready as there should be, all of the newest revision, and no other one is there.
    pub async fn is_whole(&self) -> anyhow::Result<()> {
        self.cluster.rolled_out(NAMESPACE, WEB.name, PATIENCE).await?;
        eventually("the old pods are gone", PATIENCE, async || {
            let pods = self.pods().await?.len();
            ensure!(pods == PODS, "there are {pods}");
            Ok(())
        })
        .await
    }

    /// Waits until a pod of Nodegate's has crashed twice.
    pub async fn one_crashes(&self) -> anyhow::Result<()> {
        eventually("the new version has crashed", PATIENCE, async || {
            let pods = self.pods_in(install::NAMESPACE, "").await?;
            let statuses = pods.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
            let waits = statuses.filter_map(|container| container.state?.waiting?.reason);
            let reasons: Vec<String> = waits.collect();
            ensure!(reasons.iter().any(|reason| reason == "CrashLoopBackOff"), "containers wait for {reasons:?}");
            Ok(())
        })
        .await
    }

    async fn pods_in(&self, namespace: &str, labels: &str) -> anyhow::Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), namespace);
        Ok(pods.list(&ListParams::default().labels(labels)).await?.items)
    }

    /// What new processes have of their nodes' memory after some requests, in MiB, in the nodes' order.
    pub async fn memory_of_new_processes(&self) -> anyhow::Result<Vec<f64>> {
        self.upgrade().await?;
        let load = Load::start(&self.cluster.internet, &self.targets, HOST, RATE);
        load.ended(MEASURED_AFTER).await?;
        let memory = Process::on_every_node(self.cluster)?.iter().map(Process::resident).collect();
        load.stop().all_succeeded()?;
        memory
    }
}

/// Says that no process has more than before.
pub fn nothing_is_left(before: &[f64], after: &[f64]) -> anyhow::Result<()> {
    for (before, after) in before.iter().zip(after) {
        let most = before * (1.0 + MORE_MEMORY / 100.0) + NOISE;
        ensure!(*after <= most, "a new process has {after:.1} MiB, where one had {before:.1} at first");
    }
    Ok(())
}

pub fn listed(figures: &[f64]) -> String {
    figures.iter().map(|figure| format!("{figure:.1}")).collect::<Vec<_>>().join(", ")
}
