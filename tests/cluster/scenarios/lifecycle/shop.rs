//! Who lives in the cluster before Nodegate comes, and after it went: backends, an Ingress for them, and one that is half done.

use std::{collections::BTreeSet, pin::pin};

use anyhow::{bail, ensure};
use futures_util::TryStreamExt;
use k8s_openapi::api::{core::v1::Event, networking::v1::Ingress};
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde_json::json;

use super::inventory::Inventory;
use crate::{
    cluster::Cluster,
    install,
    sample::{Sample, ingress, list, namespace},
    wait::{PATIENCE, eventually},
};

pub const HOST: &str = "install.example";
pub const NAMESPACE: &str = "rig-install";
/// The Service that answers.
pub const SERVICE: &str = "web";
const WEB: Sample<'_> = Sample { namespace: NAMESPACE, name: SERVICE, port: 8000, answers_as: "$(NODE)" };
/// A Service of the same pods, which an Ingress is to name before it is there.
const LATE: &str = "late";

/// A pod on each node.
pub async fn open(cluster: &Cluster) -> anyhow::Result<()> {
    let ingress = ingress(NAMESPACE, "web", HOST, "web");
    cluster.apply(&list(&[namespace(NAMESPACE), WEB.deployment(cluster.nodes.len()), WEB.service(80), ingress]))?;
    cluster.rolled_out(NAMESPACE, "web", PATIENCE).await
}

pub fn close(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.delete_namespace(NAMESPACE)?;
    Ok(())
}

/// Waits until the Ingress shows the addresses of all nodes. The version of it that does.
pub async fn has_every_address(cluster: &Cluster) -> anyhow::Result<Ingress> {
    let wanted = every_address(cluster);
    eventually("the Ingress shows every node's address", PATIENCE, async || {
        let found = ingresses(cluster).get("web").await?;
        let shown = shown(&found);
        ensure!(shown == wanted, "it shows {shown:?}");
        Ok(found)
    })
    .await
}

/// Fails if the Ingress was written since that version of it, which shows all addresses: to show others, or the same ones again. Where a pod didn't answer
/// its probes for long, on a starved machine, its node may have left and come back.
pub async fn was_left_alone(cluster: &Cluster, since: &Ingress) -> anyhow::Result<()> {
    let last = has_every_address(cluster).await?;
    let history = history(cluster, since, &last).await?;
    ensure!(history.windows(2).all(|pair| pair[0] != pair[1]), "the Ingress was written while its addresses stayed the same: {history:?}");
    if history.len() > 1 {
        let missed = missed_probes(cluster).await?;
        ensure!(!missed.is_empty(), "each pod was ready all the time, but the Ingress has shown {history:?}");
        println!("install: the Ingress has shown {history:?}, since {missed:?}");
    }
    Ok(())
}

/// What the Ingress has shown from one version of it to another, each of those in between included.
async fn history(cluster: &Cluster, since: &Ingress, last: &Ingress) -> anyhow::Result<Vec<BTreeSet<String>>> {
    let mut history = vec![shown(since)];
    if since.metadata.resource_version == last.metadata.resource_version {
        return Ok(history);
    }
    let since = since.metadata.resource_version.as_deref().unwrap_or_default();
    let versions = ingresses(cluster).watch(&WatchParams::default().fields("metadata.name=web"), since).await?;
    let mut versions = pin!(versions);
    while let Some(event) = versions.try_next().await? {
        let WatchEvent::Modified(version) = event else { bail!("not a change of the Ingress: {event:?}") };
        history.push(shown(&version));
        if version.metadata.resource_version == last.metadata.resource_version {
            return Ok(history);
        }
    }
    bail!("the API server tells of no more than {history:?}")
}

/// What the kubelets say of pods that were ready and didn't answer when asked whether they still are.
async fn missed_probes(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let events: Api<Event> = Api::namespaced(cluster.client(), install::NAMESPACE);
    let found = events.list(&ListParams::default().fields("reason=Unhealthy,involvedObject.kind=Pod")).await?;
    Ok(found.into_iter().filter_map(|event| event.message).filter(|message| message.starts_with("Readiness probe")).collect())
}

/// After an uninstall at once: waits until everything else of it is gone, and takes the addresses out as docs/install-k3s.md says.
pub async fn keeps_its_addresses(cluster: &Cluster, before: &Inventory) -> anyhow::Result<()> {
    let entries: Vec<_> = every_address(cluster).into_iter().map(|address| json!({ "ip": address })).collect();
    let status = json!({ "loadBalancer": { "ingress": entries } });
    let line = format!("status of {NAMESPACE}/web: ");
    before.is_restored_but(cluster, &format!("{line}{status}"), &line).await?;
    let namespace = format!("--namespace={NAMESPACE}");
    cluster.kubectl(&[
        "patch",
        "ingress",
        "web",
        &namespace,
        "--subresource=status",
        "--type=merge",
        "--patch={\"status\":{\"loadBalancer\":null}}",
    ])?;
    Ok(())
}

/// Those that an Ingress shows.
pub fn shown(ingress: &Ingress) -> BTreeSet<String> {
    let entries = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    entries.into_iter().flatten().filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone())).collect()
}

/// Those of all nodes.
pub fn every_address(cluster: &Cluster) -> BTreeSet<String> {
    cluster.nodes.iter().map(|node| node.address.to_string()).collect()
}

fn ingresses(cluster: &Cluster) -> Api<Ingress> {
    Api::namespaced(cluster.client(), NAMESPACE)
}

/// An Ingress for a Service that isn't there, and the Event that says so.
pub async fn makes_a_mistake(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&list(&[ingress(NAMESPACE, "hasty", "hasty.example", LATE)]))?;
    event(cluster, "UnknownService").await
}

/// The Service, after all; the Event says that, too. Then both go, as they came.
pub async fn mends_it(cluster: &Cluster) -> anyhow::Result<()> {
    let mut service = WEB.service(80);
    service["metadata"]["name"] = LATE.into();
    cluster.apply(&list(&[service]))?;
    event(cluster, "Fixed").await?;
    let namespace = format!("--namespace={NAMESPACE}");
    cluster.kubectl(&["delete", "ingress/hasty", &format!("service/{LATE}"), &namespace])?;
    Ok(())
}

/// Waits until the Ingress has that Event about what is wrong with it, and no other one. It is in force all the same, which has one of its own.
async fn event(cluster: &Cluster, reason: &str) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client(), NAMESPACE);
    let about = ListParams::default().fields("involvedObject.kind=Ingress,involvedObject.name=hasty");
    eventually(&format!("an Event {reason}"), PATIENCE, async || {
        let found: Vec<_> =
            events.list(&about).await?.into_iter().filter_map(|event| event.reason).filter(|reason| reason != "Programmed").collect();
        ensure!(found == [reason], "its Events are {found:?}");
        Ok(())
    })
    .await
}
