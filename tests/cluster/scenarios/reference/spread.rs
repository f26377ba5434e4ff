//! Every pod of a Service gets its share, although kube-proxy draws one at random for each connection to it, and nobody knows which.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::ensure;
use tokio::task::JoinSet;

use super::{API, ask, cloudflare};
use crate::{
    cluster::Cluster,
    http::Client,
    install,
    namespace::Entrance,
    node::Node,
    wait::{PATIENCE, eventually},
};

/// How many requests, on a fresh connection each, reach every one of ten pods. All but one in 3,700 such batches do if each of them is drawn.
const FRESH: usize = 100;
/// Fewer of them, while something is waited for.
const SOME: usize = 20;

/// Clients of each node under load, each with a connection that it keeps.
const CONNECTIONS: usize = 64;
/// The load lasts until each node's Nodegate has made so many connections to backends. Evenness grows with their number, not with time: it makes at most
/// 100 in a second, and one for every eight requests.
const DRAWN: u64 = 5000;
/// How long that may take: a minute, where the machine is fast enough. More would be beyond what a whole scenario may take.
const DRAWN_WITHIN: Duration = Duration::from_secs(420);
/// How much more the busiest of ten pods may get than the idlest. Each has drawn 500 connections, give or take 22, and how long each of these was used varies
/// as much again: a pod's share by 6 %, and the two ends of ten by 20. (With half as many, one run in a dozen or so would go beyond this by chance alone.)
const IMBALANCE: f64 = 1.5;

/// Attempts to connect to a backend.
const DIALS: &str = "nodegate_upstream_dials_total";

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

/// Many clients at once, through all nodes, until enough connections were drawn.
pub async fn load_is_even(cluster: &Cluster, pods: usize) -> anyhow::Result<()> {
    let dials = || cluster.nodes.iter().map(|node| install::metric(node, DIALS)).collect::<Result<Vec<_>, _>>();
    let before = dials()?;
    let (enough, entrance, doors) = (Arc::new(AtomicBool::new(false)), cluster.internet.entrance(), cluster.doors(80));
    let load = thread::spawn({
        let enough = Arc::clone(&enough);
        move || crowd(&entrance, &doors, &enough)
    });
    let mut drawn = Vec::new();
    let outcome = eventually(&format!("each node has drawn {DRAWN} connections"), DRAWN_WITHIN, async || {
        drawn = dials()?.iter().zip(&before).map(|(now, before)| now - before).collect();
        ensure!(drawn.iter().all(|drawn| *drawn >= DRAWN), "{drawn:?}");
        Ok(())
    })
    .await;
    enough.store(true, Ordering::Relaxed);
    let counts = load.join().expect("the load's thread")?;
    outcome?;

    let mut uneven = Vec::new();
    for ((door, counts), drawn) in counts.iter().zip(&drawn) {
        let (most, least) = (counts.values().max().copied().unwrap_or_default(), counts.values().min().copied().unwrap_or_default());
        let (ratio, sum) = (f64::from(most) / f64::from(least.max(1)), counts.values().sum::<u32>());
        println!(
            "reference: {CONNECTIONS} clients of {door}, {drawn} connections drawn: busiest pod {most}, idlest {least} of {sum} requests, {ratio:.2} times"
        );
        if counts.len() != pods || ratio > IMBALANCE {
            uneven.push(format!("{door}: {counts:?}"));
        }
    }
    ensure!(uneven.is_empty(), "expected {pods} pods and at most {IMBALANCE} times: {}", uneven.join("; "));
    Ok(())
}

/// Sends requests over all clients' connections until there are enough. How many answers came from each pod through each door.
fn crowd(
    entrance: &Entrance,
    doors: &[SocketAddr],
    enough: &Arc<AtomicBool>,
) -> anyhow::Result<BTreeMap<SocketAddr, BTreeMap<String, u32>>> {
    entrance.within_async(async || {
        let mut clients = JoinSet::new();
        for door in doors.iter().flat_map(|door| [*door; CONNECTIONS]) {
            let enough = Arc::clone(enough);
            clients.spawn(async move {
                let (mut client, mut counts) = (Client::new(door), BTreeMap::<String, u32>::new());
                while !enough.load(Ordering::Relaxed) {
                    let answer = client.get(API, "/", &[]).await?;
                    ensure!(answer.status == 200, "{answer}");
                    *counts.entry(answer.backend().unwrap_or_default()).or_default() += 1;
                }
                Ok((door, counts))
            });
        }
        let mut sums = BTreeMap::<SocketAddr, BTreeMap<String, u32>>::new();
        for ended in clients.join_all().await {
            let (door, counts) = ended?;
            let sum = sums.entry(door).or_default();
            for (name, count) in counts {
                *sum.entry(name).or_default() += count;
            }
        }
        Ok(sums)
    })
}
