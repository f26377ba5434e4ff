//! Live take-over from Traefik: no Ingress is edited, both answer alike before, and Nodegate has port 80 afterwards.

mod compare;
mod gap;
pub mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::Value;

use self::{compare::Accounts, gap::Window, objects::Port};
use super::lifecycle::{
    rights::{Requests, Roles},
    shop::{every_address, shown},
};
use crate::{
    cluster::Cluster,
    http,
    images::TRAEFIK,
    install,
    load::Load,
    wait::{PATIENCE, eventually},
};

/// The shipped overlays of the two steps.
const BESIDE: &str = "overlays/take-over-traefik";
const FINAL: &str = "overlays/take-over-traefik/final";
/// Requests a second in sum, to all nodes in turn.
const RATE: u32 = 90;
/// In a row, on connections of their own, until a node counts as Nodegate's.
const ENOUGH: usize = 10;

pub async fn takeover(cluster: &Cluster) -> anyhow::Result<()> {
    let (eighty, beside) = (cluster.doors(80), cluster.doors(8080));
    serve_by_traefik(cluster, &eighty).await?;
    let ingresses = ingresses(cluster).await?;
    let requests = Requests::from_now()?;

    install::nodegate(cluster, BESIDE, &[]).await?;
    check_tells_what_differs(cluster)?;
    let mut told = Accounts::new();
    for (theirs, ours) in eighty.iter().zip(&beside) {
        told = compare::traefik(cluster, *theirs)?;
        compare::nodegate(cluster, *ours, &told)?;
    }
    status_is(cluster, &BTreeSet::new()).await.context("it is left to Traefik, which writes none here")?;

    // As the guide has it. Pods that aren't available yet the controller would replace on all nodes at once.
    install::rollout(cluster, &["status", "--timeout=60s"])?;
    // Nodegate gets a socket on port 80 of every node, while packets for it still go to Traefik.
    let load = Load::start(&cluster.internet, &eighty, "shop.example", RATE);
    let installed = install::nodegate(cluster, FINAL, &[]).await?;
    load.stop().all_succeeded().context("nothing changes for clients until Traefik goes")?;
    for address in &eighty {
        compare::traefik(cluster, *address).context("Traefik still has the port")?;
    }

    remove_traefik(cluster, &eighty).await?;
    for address in &eighty {
        compare::nodegate(cluster, *address, &told).context("without Traefik")?;
    }
    status_is(cluster, &every_address(cluster)).await?;
    let after = self::ingresses(cluster).await?;
    ensure!(after == ingresses, "no Ingress may be edited: they were {ingresses:#?}, and are {after:#?}");

    let roles = Roles::of(cluster).await?;
    install::uninstall(cluster, installed)?;
    requests.none_was_refused()?;
    // Of the scenarios before this one, too, whatever they install and break.
    Requests::ever().none_exceeded(&roles)?;
    cluster.delete_namespace(objects::SHOP)?;
    Ok(())
}

async fn serve_by_traefik(cluster: &Cluster, addresses: &[SocketAddr]) -> anyhow::Result<()> {
    cluster.load(TRAEFIK);
    cluster.apply(&objects::backends())?;
    cluster.apply(objects::INGRESSES)?;
    cluster.apply(&objects::traefik(Port::Forwarded))?;
    cluster.rollout(objects::TRAEFIK_NAMESPACE, "daemonset/traefik", &["status", "--timeout=90s"])?;
    for backend in objects::BACKENDS {
        cluster.rolled_out(objects::SHOP, backend, PATIENCE).await?;
    }
    for address in addresses {
        eventually(&format!("Traefik serves at {address}"), PATIENCE, async || compare::traefik(cluster, *address)).await?;
    }
    Ok(())
}

/// As the docs have it: in the pod, with its settings.
fn check_tells_what_differs(cluster: &Cluster) -> anyhow::Result<()> {
    let check = ["exec", "--namespace=nodegate-system", "daemonset/nodegate", "--", "/nodegate", "check", "--cluster"];
    let Err(said) = cluster.kubectl(&check) else { bail!("check ends well, though there is an error among its findings") };
    let said = said.to_string();
    ensure!(said.contains("command terminated with exit code 1"), "check ends otherwise than with 1: {said}");
    let count = said.matches("] Ingress takeover-shop/").count();
    ensure!(
        count == compare::FINDINGS.len() && compare::FINDINGS.iter().all(|expected| said.contains(expected)),
        "check should find {:#?} and nothing else, but: {said}",
        compare::FINDINGS
    );
    Ok(())
}

/// Waits until these addresses are in the status of each Ingress, and none in that of the one that is neither's.
async fn status_is(cluster: &Cluster, expected: &BTreeSet<String>) -> anyhow::Result<()> {
    let all: Api<Ingress> = Api::namespaced(cluster.client(), objects::SHOP);
    eventually(&format!("every Ingress shows {expected:?}"), PATIENCE, async || {
        for ingress in all.list(&ListParams::default()).await? {
            let (name, shown, none) = (ingress.name_any(), shown(&ingress), BTreeSet::new());
            let expected = if name == objects::NOT_OURS { &none } else { expected };
            ensure!(shown == *expected, "{name} shows {shown:?}");
        }
        Ok(())
    })
    .await
}

/// Removes Traefik and its IngressClass under load, and measures what clients see.
async fn remove_traefik(cluster: &Cluster, addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let load = Load::start(&cluster.internet, addresses, "shop.example", RATE);
    load.ended(RATE).await?;
    let began = load.now();
    let namespace = format!("--namespace={}", objects::TRAEFIK_NAMESPACE);
    cluster.kubectl(&["delete", "daemonset/traefik", &namespace, "--cascade=orphan"])?;
    cluster.kubectl(&["delete", "pods", &namespace, "--selector=app=traefik", "--grace-period=1", "--wait=false"])?;
    for address in addresses {
        eventually(&format!("Nodegate alone answers at {address}"), PATIENCE, async || answers_alone(cluster, *address)).await?;
    }
    let alone = load.now();
    cluster.kubectl_with(&["delete", "--ignore-not-found", "--timeout=90s", "--filename=-"], &objects::traefik(Port::Forwarded))?;
    load.ended(RATE).await?;
    gap::report(&load.stop(), RATE, &Window { began, alone })
}

/// Whether Nodegate answers on port 80, and does so again and again.
fn answers_alone(cluster: &Cluster, address: SocketAddr) -> anyhow::Result<()> {
    cluster.internet.within_async(async || {
        for _ in 0..ENOUGH {
            let answer = http::get(address, "shop.example", "/").await?;
            ensure!(compare::is_nodegate(&answer), "{answer} is not Nodegate's");
        }
        Ok(())
    })
}

/// What an edit of one would change: everything but its status, and the bookkeeping of that.
async fn ingresses(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, Value>> {
    let all: Api<Ingress> = Api::namespaced(cluster.client(), objects::SHOP);
    let of = |ingress: Ingress| {
        let metadata = &ingress.metadata;
        (ingress.name_any(), serde_json::json!([metadata.uid, metadata.generation, metadata.annotations, metadata.labels, ingress.spec]))
    };
    Ok(all.list(&ListParams::default()).await?.into_iter().map(of).collect())
}
