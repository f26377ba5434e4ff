//! Every pod of a Service gets its share, although kube-proxy draws one at random for each connection to it, and nobody knows which.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;

use super::{API, ask, cloudflare};
use crate::{
    cluster::Cluster,
    node::Node,
    wait::{PATIENCE, eventually},
};

/// How many requests, on a fresh connection each, reach every one of ten pods. All but one in 3,700 such batches do if each of them is drawn.
const FRESH: usize = 100;
/// Fewer of them, while something is waited for.
const SOME: usize = 20;

/// Through each node, the first [`FRESH`] requests after it knows all pods.
pub async fn fresh_connections_reach_all(cluster: &Cluster, pods: usize) -> anyhow::Result<()> {
    let service =
        cluster.kubectl(&["get", "service", "api", "--namespace=honeydue", "--output=jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"])?;
    for node in &cluster.nodes {
        draws_from_all(cluster, node, &service, pods).await?;
        let counts = answers(cluster, node, FRESH)?;
        ensure!(counts.len() == pods, "{}: of {pods} pods {} got one of {FRESH} requests: {counts:?}", node.name, counts.len());
        let least = counts.values().min().copied().unwrap_or_default();
        println!("reference: {FRESH} requests through {} reach all {pods} pods, the idlest {least} times", node.name);
    }
    Ok(())
}

/// Waits until each connection that the node's Nodegate has to the Service was drawn from all pods: all of them have answered, so that kube-proxy knows
/// them there, and then all connections of that moment were replaced.
async fn draws_from_all(cluster: &Cluster, node: &Node, service: &str, pods: usize) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    eventually(&format!("each of {pods} pods has answered through {}", node.name), PATIENCE, async || {
        seen.extend(answers(cluster, node, SOME)?.into_keys());
        ensure!(seen.len() == pods, "{} did: {seen:?}", seen.len());
        Ok(())
    })
    .await?;
    let old = connections(node, service);
    eventually(&format!("{} has replaced its connections to {pods} pods", node.name), PATIENCE, async || {
        answers(cluster, node, SOME)?;
        let left = connections(node, service).intersection(&old).count();
        ensure!(left == 0, "{left} of {} are left", old.len());
        Ok(())
    })
    .await
}

/// The near ends of a node's own connections to that address.
fn connections(node: &Node, service: &str) -> BTreeSet<String> {
    let lines = node.run(&["ss", "--tcp", "--numeric", "--no-header", "state", "established", "dst", service]);
    lines.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect()
}

/// How many answers came from each pod, to requests through this node on a fresh connection each.
fn answers(cluster: &Cluster, node: &Node, requests: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let (door, fields) = ((node.address, 80).into(), cloudflare("https"));
    cluster.internet.within_async(async || {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            let answer = ask(door, API, &fields).await?;
            ensure!(answer.status == 200, "{answer}");
            *counts.entry(answer.backend().unwrap_or_default()).or_default() += 1;
        }
        Ok(counts)
    })
}
