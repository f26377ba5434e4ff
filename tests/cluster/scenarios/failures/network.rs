//! The network between nodes fails.

use std::time::Duration;

use anyhow::ensure;

use super::{
    site::{HOST, Site, account, recovery, spared},
    table::Row,
};
use crate::{
    cluster::Cluster,
    network,
    node::Node,
    wait::{PATIENCE, eventually},
};

/// How long a request may take to fail whose pod is out of reach: the connect timeout and a retry, with room for a busy machine.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(10);

pub async fn overlay_breaks(site: &Site<'_>) -> anyhow::Result<Row> {
    let (first, second) = (site.cluster.node(1), site.cluster.node(2));
    let broken = |broken| network::set_overlay(first, second, broken);
    let (seen, lasts) = observe(site, broken, &[2]).await?;
    Ok(Row { fault: "overlay broken between two nodes", seen: format!("through these two nodes, {seen}"), lasts })
}

pub async fn overlay_is_blocked(site: &Site<'_>) -> anyhow::Result<Row> {
    let blocked = |blocked| [2, 3].iter().for_each(|other| network::set_overlay(site.cluster.node(1), site.cluster.node(*other), blocked));
    let (seen, lasts) = observe(site, blocked, &[]).await?;
    Ok(Row { fault: "UDP 8472 blocked by one node's firewall", seen: format!("through all nodes, {seen}"), lasts })
}

/// Makes the fault, and ends it. `spares` are the nodes' indices that it doesn't concern.
async fn observe(site: &Site<'_>, set: impl Fn(bool), spares: &[usize]) -> anyhow::Result<(String, String)> {
    let load = site.load(HOST);
    load.ended(60).await?;
    set(true);
    let began = load.now();
    let during = load.ended(240).await;
    set(false);
    let ended = load.now();
    during?;
    // Those that hang are still to fail, and what follows has to be well.
    load.ended(120).await?;
    let tally = load.stop();
    site.cluster.serves(HOST).await?;
    let targets: Vec<_> = spares.iter().map(|index| site.targets[*index]).collect();
    spared(&tally, &targets)?;
    let wrong = tally.failed.iter().find(|failure| !failure.what.starts_with("504") || failure.took >= GIVES_UP_WITHIN);
    ensure!(wrong.is_none(), "not a 504 within {GIVES_UP_WITHIN:?}: {}", wrong.map(ToString::to_string).unwrap_or_default());
    ensure!(!tally.failed.is_empty() || tally.slowest > Duration::from_secs(1), "no request met the fault");
    let (fault, recovery) = (ended.saturating_sub(began).as_secs_f32(), recovery(&tally, ended).as_secs_f32());
    Ok((account(&tally), format!("broken for {fault:.0} s; the last request that failed was sent {recovery:.1} s after that")))
}

/// kube-proxy of the first node is stopped, and the pod of the second is replaced by one with another address.
pub async fn kube_proxy_stops(site: &Site<'_>) -> anyhow::Result<Row> {
    let (cluster, node) = (site.cluster, site.cluster.node(1));
    let load = site.load(HOST);
    load.ended(60).await?;
    node.stop_kube_proxy();
    let began = load.now();
    let during = move_pod(cluster, "n2").await;
    let during = match during {
        Ok(()) => load.ended(240).await,
        error => error,
    };
    node.start_kube_proxy();
    let ended = load.now();
    during?;
    load.ended(120).await?;
    let tally = load.stop();
    site.cluster.serves(HOST).await?;
    spared(&tally, &site.targets[1..])?;
    let (fault, recovery) = (ended.saturating_sub(began).as_secs_f32(), recovery(&tally, ended).as_secs_f32());
    Ok(Row {
        fault: "kube-proxy of one node stopped, then a pod replaced",
        seen: format!("through that node, {}; through the others, none failed", account(&tally)),
        lasts: format!("stopped for {fault:.0} s; the last request that failed was sent {recovery:.1} s after it was back"),
    })
}

async fn move_pod(cluster: &Cluster, node: &str) -> anyhow::Result<()> {
    let selector = format!("--field-selector=spec.nodeName={node}");
    cluster.kubectl(&["delete", "pods", "--namespace=failures", "--selector=app=web", &selector, "--timeout=60s"])?;
    cluster.rolled_out("failures", "web", PATIENCE).await
}

/// The third node's cable is pulled, until its address is out of the Ingress's status and its pod out of the endpoints.
pub async fn link_goes_down(site: &Site<'_>) -> anyhow::Result<Row> {
    let (cluster, lost) = (site.cluster, site.cluster.node(3));
    let load = site.load(HOST);
    load.ended(60).await?;
    lost.set_link(false);
    let began = load.now();
    let withdrawn = in_status(cluster, lost, false).await;
    let gone = load.now();
    lost.set_link(true);
    withdrawn?;
    in_status(cluster, lost, true).await?;
    let back = load.now();
    site.cluster.serves(HOST).await?;
    load.ended(60).await?;
    let tally = load.stop();
    let others: Vec<_> = tally.failed.iter().filter(|failure| site.targets[..2].contains(&failure.target)).collect();
    let latest = others.iter().map(|failure| failure.sent.saturating_sub(began)).max().unwrap_or_default();
    let (withdrawn, lag) = (gone.saturating_sub(began), back.saturating_sub(gone));
    ensure!(latest < withdrawn, "requests through the other nodes failed for {latest:?}, and the node counted as lost after {withdrawn:?}");
    Ok(Row {
        fault: "a node's link down",
        seen: format!("through that node, no answer; through the others, {} requests to its pod failed", others.len()),
        lasts: format!(
            "the last of these was sent {:.0} s after the fault; the status has lost the node's address after {:.0} s, and has it again {:.1} s after the link",
            latest.as_secs_f32(),
            withdrawn.as_secs_f32(),
            lag.as_secs_f32()
        ),
    })
}

async fn in_status(cluster: &Cluster, node: &Node, wanted: bool) -> anyhow::Result<()> {
    let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
    eventually(&format!("the status names {}: {wanted}", node.name), PATIENCE, async || {
        let addresses = cluster.kubectl(&["get", "ingress", "web", "--namespace=failures", "--output", path])?;
        let named = addresses.split_whitespace().any(|address| address == node.address.to_string());
        ensure!(named == wanted, "it has {addresses}");
        Ok(())
    })
    .await
}
