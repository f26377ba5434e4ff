//! Who lives in the cluster before Nodegate comes, and after it went: backends, an Ingress for them, and one that is half done.

use std::collections::BTreeSet;

use anyhow::ensure;
use k8s_openapi::api::{core::v1::Event, networking::v1::Ingress};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    cluster::Cluster,
    sample::{Sample, ingress, list, namespace},
    wait::{PATIENCE, eventually},
};

pub const HOST: &str = "shop.example";
const NAMESPACE: &str = "rig-install";
const WEB: Sample<'_> = Sample { namespace: NAMESPACE, name: "web", port: 8000, answers_as: "$(NODE)" };
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
pub async fn has_every_address(cluster: &Cluster) -> anyhow::Result<Option<String>> {
    let ingresses: Api<Ingress> = Api::namespaced(cluster.client(), NAMESPACE);
    let wanted: BTreeSet<String> = cluster.nodes.iter().map(|node| node.address.to_string()).collect();
    eventually("the Ingress shows every node's address", PATIENCE, async || {
        let found = ingresses.get("web").await?;
        let entries = found.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let shown: BTreeSet<String> = entries.into_iter().flatten().filter_map(|entry| entry.ip.clone()).collect();
        ensure!(shown == wanted, "it shows {shown:?}");
        Ok(found.resource_version())
    })
    .await
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

/// Waits until the Ingress has that Event, and no other one.
async fn event(cluster: &Cluster, reason: &str) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client(), NAMESPACE);
    let about = ListParams::default().fields("involvedObject.kind=Ingress,involvedObject.name=hasty");
    eventually(&format!("an Event {reason}"), PATIENCE, async || {
        let found: Vec<_> = events.list(&about).await?.into_iter().filter_map(|event| event.reason).collect();
        ensure!(found == [reason], "its Events are {found:?}");
        Ok(())
    })
    .await
}
