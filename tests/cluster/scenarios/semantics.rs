//! What an Ingress means, through the real API: hosts, paths, classes, backends, conflicts, edits; what its status and its Events say.

mod cases;
mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::ensure;
use k8s_openapi::api::{core::v1::Event, networking::v1::Ingress};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    cluster::Cluster,
    install,
    wait::{PATIENCE, eventually},
};
use cases::{Case, FALLBACK, NOT_FOUND};
use objects::{CLASS, FOREIGN, NAMESPACE};

/// Makes Nodegate's class the default one.
const OVERLAY: &str = "overlays/default-class";
const IN_NAMESPACE: &str = "--namespace=semantics";
/// Who writes our Events.
const CONTROLLER: &str = "nodegate.dev/ingress-controller";
const MOVE: &str = r#"[{ "op": "replace", "path": "/spec/rules/0/http/paths/0/path", "value": "/after" }]"#;

/// Ingresses with a finding, and the reasons of its Events.
type Findings = &'static [(&'static str, &'static str)];

const FINDINGS_FIRST: Findings = &[
    ("backends", "ResourceBackend"),
    ("backends", "UnknownPort"),
    ("backends", "UnknownPort"),
    ("backends", "UnknownService"),
    ("of-a-misspelt-class", "UnknownClass"),
];
const FINDINGS_SECOND: Findings = &[
    ("a-younger", "Conflict"),
    ("backends", "Fixed"),
    ("backends", "ResourceBackend"),
    ("backends", "UnknownPort"),
    ("backends", "UnknownPort"),
    ("of-a-misspelt-class", "UnknownClass"),
];
const FINDINGS_THIRD: Findings = &[
    ("a-younger", "Fixed"),
    ("backends", "Fixed"),
    ("backends", "ResourceBackend"),
    ("backends", "UnknownPort"),
    ("backends", "UnknownPort"),
    ("of-a-misspelt-class", "UnknownClass"),
];

pub async fn semantics(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&objects::first())?;
    let installed = install::nodegate(cluster, OVERLAY, &[]).await?;
    cluster.rolled_out(NAMESPACE, "colours", PATIENCE).await?;
    let count = meets(cluster, cases::FIRST, NOT_FOUND).await?;
    println!("semantics: {count} requests a node and phase");
    classless_is_left_classless(cluster).await?;
    statuses_are_ours(cluster).await?;
    events_tell(cluster, FINDINGS_FIRST).await?;

    cluster.apply(objects::SECOND)?;
    cluster.kubectl(&["scale", "deployment/late", IN_NAMESPACE, "--replicas=1"])?;
    cluster.kubectl(&["patch", "ingress/edited", IN_NAMESPACE, "--type=json", "--patch", MOVE])?;
    cluster.rolled_out(NAMESPACE, "late", PATIENCE).await?;
    meets(cluster, cases::SECOND, FALLBACK).await?;
    statuses_are_ours(cluster).await?;
    events_tell(cluster, FINDINGS_SECOND).await?;
    describe_names_the_winner(cluster)?;

    cluster.kubectl(&["delete", "ingress", "z-older", "everything-else", "edited", IN_NAMESPACE])?;
    meets(cluster, cases::THIRD, NOT_FOUND).await?;
    statuses_are_ours(cluster).await?;
    events_tell(cluster, FINDINGS_THIRD).await?;

    install::uninstall(cluster, installed)?;
    cluster.delete_namespace(NAMESPACE)?;
    cluster.kubectl(&["delete", "ingressclass", CLASS])?;
    Ok(())
}

/// Waits until every node answers every request as it should. Returns how many those are.
async fn meets(cluster: &Cluster, now: &[Case], nobody: &str) -> anyhow::Result<usize> {
    let mut count = 0;
    for node in &cluster.nodes {
        let door = SocketAddr::from((node.address, 80));
        let what = format!("{} answers every request as it should", node.name);
        count = eventually(&what, PATIENCE, async || cases::through(cluster, door, now, nobody)).await?;
    }
    Ok(count)
}

/// Else it wouldn't test what an Ingress without a class is.
async fn classless_is_left_classless(cluster: &Cluster) -> anyhow::Result<()> {
    let found = ingresses(cluster).get("classless").await?;
    let class = found.spec.and_then(|spec| spec.ingress_class_name);
    ensure!(class.is_none(), "somebody wrote the class {class:?} into it");
    Ok(())
}

/// Waits until every Ingress of ours bears the nodes' addresses, in order and no others. By then nobody else's may have any.
async fn statuses_are_ours(cluster: &Cluster) -> anyhow::Result<()> {
    let mut nodes: Vec<String> = cluster.nodes.iter().map(|node| node.address.to_string()).collect();
    nodes.sort();
    let foreign = eventually("the status of every Ingress of ours has all nodes", PATIENCE, async || {
        let (foreign, ours): (BTreeMap<_, _>, BTreeMap<_, _>) =
            statuses(cluster).await?.into_iter().partition(|(name, _)| FOREIGN.contains(&&**name));
        ensure!(!ours.is_empty() && ours.values().all(|addresses| *addresses == nodes), "{ours:#?}");
        Ok(foreign)
    })
    .await?;
    ensure!(foreign.keys().eq(&BTreeSet::from(FOREIGN)), "those of others are {FOREIGN:?}, but there are {:?}", foreign.keys());
    ensure!(foreign.values().all(Vec::is_empty), "those of others have to be left alone: {foreign:#?}");
    Ok(())
}

/// The addresses that each Ingress bears.
async fn statuses(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let of = |ingress: Ingress| {
        let entries = ingress.status.clone().and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
        let text = |entry: k8s_openapi::api::networking::v1::IngressLoadBalancerIngress| entry.ip.or(entry.hostname).unwrap_or_default();
        (ingress.name_any(), entries.unwrap_or_default().into_iter().map(text).collect())
    };
    Ok(ingresses(cluster).list(&ListParams::default()).await?.into_iter().map(of).collect())
}

/// Waits until our Events are those of these findings and no others.
async fn events_tell(cluster: &Cluster, findings: Findings) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client(), NAMESPACE);
    eventually("our Events tell what is wrong, and nothing else", PATIENCE, async || {
        let all = events.list(&ListParams::default()).await?.items;
        let mut seen: Vec<_> = all.iter().filter(|event| is_ours(event)).map(about).collect();
        seen.sort();
        let told: Vec<_> = seen.iter().map(|(object, reason, _)| (&**object, &**reason)).collect();
        ensure!(told == findings, "expected {findings:#?}, but saw {seen:#?}");
        Ok(())
    })
    .await
}

/// That one is in force is no finding.
fn is_ours(event: &Event) -> bool {
    event.reason.as_deref() != Some("Programmed")
        && event.source.as_ref().and_then(|source| source.component.as_deref()) == Some(CONTROLLER)
}

/// The object, the reason, the message.
fn about(event: &Event) -> (String, String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&event.involved_object.name), text(&event.reason), text(&event.message))
}

/// Where people look.
fn describe_names_the_winner(cluster: &Cluster) -> anyhow::Result<()> {
    let said = cluster.kubectl(&["describe", "ingress", "a-younger", IN_NAMESPACE])?;
    let line = said.lines().find(|line| line.contains("Conflict") && line.contains("semantics/z-older"));
    ensure!(line.is_some(), "kubectl describe names no winner: {said}");
    Ok(())
}

fn ingresses(cluster: &Cluster) -> Api<Ingress> {
    Api::namespaced(cluster.client(), NAMESPACE)
}
