//! The reference deployment: three nodes behind Cloudflare in its Flexible mode, the shipped overlay and example, and every backend in its place.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    http::{self, Answer, Client},
    images::REDIS,
    install::{self, CLIENTS_ARE_CLOUDFLARE, K3S_CLOUDFLARE},
    network,
    sample::{Sample, list},
    wait::{PATIENCE, eventually},
};

const API: &str = "api.myhoneydue.com";
const ADMIN: &str = "admin.myhoneydue.com";
const APEX: &str = "myhoneydue.com";
/// Somebody's browser, as Cloudflare tells us.
const VISITOR: &str = "192.0.2.77";

/// How many pods the API is scaled to, and how many requests on fresh connections reach every one of them.
const PODS: usize = 10;
const FRESH: usize = 100;
/// The load on kept connections through each node, and how much more the busiest pod may get than the idlest. kube-proxy draws a pod at random for each
/// connection: it takes some 2,500 draws until ten pods are that even, and Nodegate makes 100 a second.
const CONNECTIONS: usize = 64;
const LASTS: Duration = Duration::from_secs(40);
const IMBALANCE: f64 = 1.5;

const NAMESPACE: &str = "honeydue";
const API_PODS: Sample<'_> = Sample { namespace: NAMESPACE, name: "api", port: 8000, answers_as: "$(POD)" };
const ADMIN_POD: Sample<'_> = Sample { namespace: NAMESPACE, name: "admin", port: 3000, answers_as: "admin" };

const REDIS_POD: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: redis, namespace: honeydue }
spec:
  selector: { matchLabels: { app: redis } }
  template:
    metadata: { labels: { app: redis } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: redis
        image: REDIS
        imagePullPolicy: Never
        readinessProbe: { tcpSocket: { port: 6379 }, periodSeconds: 1 }
";

pub async fn reference(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.nodes.iter().for_each(|node| node.load(REDIS));
    cluster.apply(&example()?)?;
    cluster.apply(&list(&[API_PODS.deployment(3), ADMIN_POD.deployment(1)]))?;
    cluster.apply(&REDIS_POD.replace("REDIS", REDIS))?;
    let installed = install::nodegate(cluster, K3S_CLOUDFLARE, &[CLIENTS_ARE_CLOUDFLARE]).await?;
    for deployment in ["api", "admin", "redis"] {
        cluster.rolled_out(NAMESPACE, deployment, PATIENCE).await?;
    }
    let doors = cluster.doors(80);
    for door in &doors {
        every_backend_is_in_its_place(cluster, *door).await?;
        every_pod_gets_requests(cluster, *door, 3).await?;
    }
    cluster.kubectl(&["scale", "deployment/api", "--namespace=honeydue", &format!("--replicas={PODS}")])?;
    cluster.rolled_out(NAMESPACE, "api", PATIENCE).await?;
    for door in &doors {
        every_pod_gets_requests(cluster, *door, PODS).await?;
    }
    load_is_spread(cluster, &doors)?;
    install::uninstall(cluster, installed)?;
    cluster.kubectl(&["delete", "namespace", NAMESPACE])?;
    Ok(())
}

/// The shipped example, without what it says is for reading it without a cluster: invented addresses and endpoints.
fn example() -> anyhow::Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/k3s-cloudflare/honeydue.yaml");
    let text = fs::read_to_string(path).context(path)?;
    let (slices, mut kept): (Vec<Value>, Vec<Value>) =
        serde_saphyr::from_multiple(&text).context(path)?.into_iter().partition(|object: &Value| object["kind"] == "EndpointSlice");
    let mut addresses = 0;
    for service in kept.iter_mut().filter(|object| object["kind"] == "Service") {
        addresses += usize::from(service["spec"].as_object_mut().is_some_and(|spec| spec.remove("clusterIP").is_some()));
    }
    ensure!(
        (slices.len(), addresses) == (1, 3),
        "{path}: left out {} EndpointSlices and {addresses} clusterIPs, not 1 and 3",
        slices.len()
    );
    Ok(list(&kept))
}

/// What Cloudflare sends along in its Flexible mode.
async fn ask(door: SocketAddr, host: &str) -> anyhow::Result<Answer> {
    let fields = [("cf-connecting-ip", VISITOR), ("cf-visitor", r#"{"scheme":"https"}"#), ("x-forwarded-proto", "https")];
    Client::new(door).get(host, "/", &fields).await
}

async fn every_backend_is_in_its_place(cluster: &Cluster, door: SocketAddr) -> anyhow::Result<()> {
    eventually(&format!("the example is served on {door}"), PATIENCE, async || {
        cluster.internet.within_async(async || {
            for (host, backend) in [(API, "api-"), (APEX, "api-"), (ADMIN, "admin")] {
                let answer = ask(door, host).await?;
                let name = answer.backend().unwrap_or_default();
                ensure!(answer.status == 200 && name.starts_with(backend), "{host}: expected a backend {backend}, got {answer}");
                told_of_the_visitor(&answer)?;
            }
            Ok(())
        })
    })
    .await?;
    // Nothing leads to redis: not a name, and not a port of a node.
    let (name, port) = cluster.internet.within_async(async || {
        let name = http::get(door, "redis", "/").await?;
        anyhow::Ok((name.status, http::get((door.ip(), 6379).into(), "redis", "/").await.is_ok()))
    })?;
    ensure!((name, port) == (404, false), "{door}: redis by its name: {name}, expected 404; anything on its port: {port}");
    Ok(())
}

/// What the backend says that it was told: the visitor's scheme and address, and Cloudflare's own behind it.
fn told_of_the_visitor(answer: &Answer) -> anyhow::Result<()> {
    let account: Value = serde_json::from_str(&answer.body)?;
    let told = |name: &str| {
        let pairs = account["headers"].as_array().into_iter().flatten();
        let values: Vec<_> = pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap_or_default()).collect();
        values.join(" and ")
    };
    let forwarded_for = told("x-forwarded-for");
    ensure!(told("x-forwarded-proto") == "https", "X-Forwarded-Proto: https expected, got {:?}", told("x-forwarded-proto"));
    ensure!(told("x-real-ip") == VISITOR, "X-Real-IP: {VISITOR} expected, got {:?}", told("x-real-ip"));
    ensure!(told("cf-connecting-ip") == VISITOR, "CF-Connecting-IP: {VISITOR} expected, got {:?}", told("cf-connecting-ip"));
    let peer = network::client_address(10);
    let known = forwarded_for.split(", ").map(str::parse::<IpAddr>).collect::<Result<Vec<_>, _>>();
    ensure!(
        known.is_ok_and(|known| known.iter().all(|entry| *entry == peer || entry.to_string() == VISITOR)),
        "X-Forwarded-For: only {VISITOR} and {peer} expected, got {forwarded_for:?}"
    );
    Ok(())
}

/// All of `pods`, with [`FRESH`] requests on a connection each. Endpoints arrive a moment after the Deployment knows of them.
async fn every_pod_gets_requests(cluster: &Cluster, door: SocketAddr, pods: usize) -> anyhow::Result<()> {
    eventually(&format!("{FRESH} requests through {door} reach all {pods} pods"), PATIENCE, async || {
        let counts = cluster.internet.within_async(async || {
            let mut counts = BTreeMap::<String, usize>::new();
            for _ in 0..FRESH {
                let answer = ask(door, API).await?;
                ensure!(answer.status == 200, "{answer}");
                *counts.entry(answer.backend().unwrap_or_default()).or_default() += 1;
            }
            Ok(counts)
        })?;
        ensure!(counts.len() == pods, "{} pods answered: {counts:?}", counts.len());
        Ok(())
    })
    .await
}

/// Many clients at once, each with its connection.
fn load_is_spread(cluster: &Cluster, doors: &[SocketAddr]) -> anyhow::Result<()> {
    let counts = cluster.internet.within_async(async || {
        let until = Instant::now() + LASTS;
        let mut clients = tokio::task::JoinSet::new();
        for door in doors.iter().flat_map(|door| [*door; CONNECTIONS]) {
            clients.spawn(async move {
                let (mut client, mut counts) = (Client::new(door), BTreeMap::<String, u32>::new());
                while Instant::now() < until {
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
        anyhow::Ok(sums)
    })?;
    let mut uneven = Vec::new();
    for (door, counts) in &counts {
        let (most, least) = (counts.values().max().copied().unwrap_or_default(), counts.values().min().copied().unwrap_or_default());
        let (ratio, sum) = (f64::from(most) / f64::from(least.max(1)), counts.values().sum::<u32>());
        println!("reference: {CONNECTIONS} connections to {door}: busiest pod {most}, idlest {least} of {sum} requests, {ratio:.2} times");
        if counts.len() != PODS || ratio > IMBALANCE {
            uneven.push(format!("{door}: {counts:?}"));
        }
    }
    ensure!(uneven.is_empty(), "expected {PODS} pods and at most {IMBALANCE} times: {}", uneven.join("; "));
    Ok(())
}
