//! Live take-over from Traefik: no Ingress is edited, both answer alike before, and Nodegate has port 80 afterwards.

mod compare;
mod gap;
mod objects;

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::Value;

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

    install::nodegate(cluster, BESIDE, &[]).await?;
    check_tells_what_differs(cluster)?;
    for (theirs, ours) in eighty.iter().zip(&beside) {
        compare::nodegate(cluster, *ours)?;
        compare::traefik(cluster, *theirs)?;
    }

    // Nodegate gets a socket on port 80 of every node, while packets for it still go to Traefik.
    let load = Load::start(&cluster.internet, &eighty, "shop.example", RATE);
    let installed = install::nodegate(cluster, FINAL, &[]).await?;
    load.stop().all_succeeded().context("nothing changes for clients until Traefik goes")?;
    for address in &eighty {
        compare::traefik(cluster, *address).context("Traefik still has the port")?;
    }

    remove_traefik(cluster, &eighty).await?;
    for address in &eighty {
        compare::nodegate(cluster, *address).context("without Traefik")?;
    }
    let after = self::ingresses(cluster).await?;
    ensure!(after == ingresses, "no Ingress may be edited: they were {ingresses:#?}, and are {after:#?}");

    install::uninstall(cluster, installed)?;
    cluster.delete_namespace(objects::SHOP)?;
    Ok(())
}

async fn serve_by_traefik(cluster: &Cluster, addresses: &[SocketAddr]) -> anyhow::Result<()> {
    cluster.load(TRAEFIK);
    cluster.apply(&objects::backends())?;
    cluster.apply(objects::INGRESSES)?;
    cluster.apply(&objects::traefik())?;
    cluster.kubectl(&["rollout", "status", "daemonset/traefik", "--namespace=takeover-traefik", "--timeout=90s"])?;
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
    // It ends with 1 where there is an error among the findings, and kubectl then fails with all that it said.
    let said = cluster.kubectl(&check).unwrap_or_else(|error| format!("{error:#}"));
    for expected in compare::FINDINGS {
        ensure!(said.contains(expected), "check doesn't say {expected:?}, but: {said}");
    }
    ensure!(!said.contains("not-ours"), "that Ingress is neither's: {said}");
    Ok(())
}

/// Removes Traefik and its IngressClass under load, and measures what clients see.
async fn remove_traefik(cluster: &Cluster, addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let load = Load::start(&cluster.internet, addresses, "shop.example", RATE);
    let began = Instant::now();
    let namespace = format!("--namespace={}", objects::TRAEFIK_NAMESPACE);
    cluster.kubectl(&["delete", "daemonset/traefik", &namespace, "--cascade=orphan"])?;
    cluster.kubectl(&["delete", "pods", &namespace, "--selector=app=traefik", "--grace-period=1", "--wait=false"])?;
    for address in addresses {
        eventually(&format!("Nodegate alone answers at {address}"), PATIENCE, async || answers_alone(cluster, *address)).await?;
    }
    let alone = began.elapsed();
    cluster.kubectl_with(&["delete", "--ignore-not-found", "--timeout=90s", "--filename=-"], &objects::traefik())?;
    gap::report(&load.stop(), RATE, alone)?;
    Ok(())
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
