//! Versions that never come to serve: the old one goes on, on all nodes, until the upgrade is taken back.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{
    super::{lifecycle::process::Process, table::Row},
    site::{Bare, Site},
    watch::{RATE, Watch},
};
use crate::{
    install::{self, NAMESPACE},
    wait::{PATIENCE, eventually},
};

/// How many more requests there are once the new version is known to be stuck: ten seconds of them.
const STUCK: u32 = 10 * RATE;
/// A ServiceAccount without any right.
const POWERLESS: &str = "powerless";

/// An argument of a version that isn't this one.
pub async fn crashes_at_start(site: &Site<'_>) -> anyhow::Result<Row> {
    let container = json!({ "name": "nodegate", "args": ["serve", "--of-another-version"] });
    let (seen, crashes) = serves_on(site, &json!({ "containers": [container] }), |_, container| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref());
        ensure!(waiting == Some("CrashLoopBackOff"), "it is {container:?}");
        Ok(container.restart_count + 1)
    })
    .await
    .context("a version that crashes")?;
    Ok(Row {
        event: "a new version that ends with an error at its start, then `kubectl rollout undo`",
        seen: "nothing: the rollout stops on the first node, and each old process serves on; no WebSocket ends".to_owned(),
        measured: format!("{seen}; the new version had crashed {crashes} times, and had its place for another ten seconds"),
    })
}

/// Its lists are refused, so that it gets no table.
pub async fn never_becomes_ready(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.bare.cluster;
    cluster.kubectl(&["create", "serviceaccount", POWERLESS, "--namespace", NAMESPACE])?;
    let (seen, refused) = serves_on(site, &json!({ "serviceAccountName": POWERLESS }), |pod, container| {
        let running = container.state.as_ref().is_some_and(|state| state.running.is_some());
        ensure!(running && container.started != Some(true), "it is {container:?}");
        let log = cluster.kubectl(&["logs", pod, "--namespace", NAMESPACE])?;
        let refused = log.lines().filter(|line| line.contains("forbidden")).count();
        ensure!(refused > 0 && log.contains("taking over"), "its log is {log}");
        Ok(refused)
    })
    .await
    .context("a version that doesn't become ready")?;
    cluster.kubectl(&["delete", "serviceaccount", POWERLESS, "--namespace", NAMESPACE])?;
    Ok(Row {
        event: "a new version that may read nothing, and so never becomes ready, then `kubectl rollout undo`",
        seen: "nothing: the rollout stops on the first node, and each old process serves on, also where the new one has taken its sockets; no WebSocket ends"
            .to_owned(),
        measured: format!("{seen}; the new version had told of {refused} refusals, and had its place for another ten seconds"),
    })
}

/// Gives the pods' template these fields, waits until the new version is `stuck` as it should be, on one node alone, and takes that back.
async fn serves_on<T>(
    site: &Site<'_>,
    fields: &Value,
    stuck: impl Fn(&str, &ContainerStatus) -> anyhow::Result<T>,
) -> anyhow::Result<(String, T)> {
    let cluster = site.bare.cluster;
    let old = Process::on_every_node(cluster)?;
    let watch = Watch::begin(&site.bare).await?;
    install::patch_pods(cluster, fields)?;
    let how = eventually("a new version is stuck", PATIENCE, async || {
        let (pod, container) = newcomer(&site.bare).await?;
        stuck(&pod, &container)
    })
    .await?;
    watch.load.ended(STUCK).await?;
    newcomer(&site.bare).await.context("before it is taken back")?;
    install::rollout(cluster, &["undo"])?;
    install::rolled_out(cluster).await?;
    let seen = watch.end().await?;
    seen.nothing_happened()?;
    let new = Process::on_every_node(cluster)?;
    ensure!(new.iter().map(|process| &process.pid).eq(old.iter().map(|process| &process.pid)), "processes were {old:#?}, and are {new:#?}");
    Ok((seen.account(&site.bare.targets), how))
}

/// The one pod that isn't ready, beside one on each node that is.
async fn newcomer(site: &Bare<'_>) -> anyhow::Result<(String, ContainerStatus)> {
    let pods = Api::<Pod>::namespaced(site.cluster.client(), NAMESPACE).list(&ListParams::default()).await?.items;
    let container = |pod: &Pod| pod.status.as_ref()?.container_statuses.as_ref()?.first().cloned();
    let (ready, other): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| container(pod).is_some_and(|container| container.ready));
    ensure!(ready.len() == site.targets.len() && other.len() == 1, "{} pods are ready, and {} are not", ready.len(), other.len());
    let newcomer = container(other[0]).with_context(|| format!("no container in {} yet", other[0].name_any()))?;
    Ok((other[0].name_any(), newcomer))
}
