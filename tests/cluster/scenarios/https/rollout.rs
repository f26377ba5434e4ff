//! A rollout under load: handshakes, calls of gRPC on connections of their own, and calls on one channel; none of them fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::time::interval;

use super::{
    HOST,
    grpc::{Call, HOSTS},
    soak::Soak,
};
use crate::{cluster::Cluster, https, install};

/// Between two handshakes at a node: its processor is busy with more than these.
const PACE: Duration = Duration::from_millis(100);
/// Between two calls at a node: each is a process of its own.
const CALL_PACE: Duration = Duration::from_millis(250);
/// Calls on a channel before the rollout, and again behind it.
const CALLS: usize = 10;
/// A setting that changes nothing for the load.
const HARMLESS: (&str, &str) = ("NODEGATE_KEEP_ALIVE_TIMEOUT", "5m");

/// A client's thread, and how often it was served; it ends with the first time that it isn't.
type Counting = JoinHandle<anyhow::Result<usize>>;

/// Tells threads that it is over, at the latest when the scenario gives up.
#[derive(Debug, Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every node hands its sockets to a new process meanwhile.
pub async fn rollout(cluster: &Cluster, installed: &install::Installed, certificate: &[u8]) -> anyhow::Result<()> {
    // Within `minReadySeconds` a pod isn't available yet, and the controller replaces such ones on all nodes at once.
    install::rollout(cluster, &["status", "--timeout=60s"])?;
    let doors = cluster.doors(443);
    let soaks = doors.iter().map(|door| Soak::start(cluster, *door)).collect::<anyhow::Result<Vec<_>>>()?;
    all_succeed(&soaks).await.context("before a rollout")?;
    let over = Over::default();
    let handshakes = at_every_door(cluster, &over, |door| {
        let certificate = certificate.to_vec();
        async move |over: &AtomicBool| handshakes(door, &certificate, over).await
    });
    let calls = at_every_door(cluster, &over, |door| {
        let calls = HOSTS.map(|host| Call::new(cluster, door, host, "ping_pong", &[]));
        async move |over: &AtomicBool| make_in_turn(calls, over).await
    });
    let changed = install::change(cluster, installed, &[HARMLESS]).await;
    drop(over);
    let (handshakes, calls) = (counts(handshakes), counts(calls));
    changed?;
    let handshakes = handshakes.context("handshakes during a rollout")?;
    let calls = calls.context("calls of gRPC during a rollout")?;
    all_succeed(&soaks).await.context("behind a rollout")?;
    let on_channels = soaks.into_iter().map(Soak::stop).collect::<anyhow::Result<Vec<_>>>().context("during a rollout")?;
    println!(
        "https: {handshakes:?} handshakes at the nodes during a rollout, \
         {calls:?} calls of gRPC on connections of their own and {on_channels:?} on one channel, none failed"
    );
    Ok(())
}

async fn all_succeed(soaks: &[Soak]) -> anyhow::Result<()> {
    for soak in soaks {
        soak.succeeds(CALLS).await?;
    }
    Ok(())
}

/// Runs a client for each node on the internet, until it is over.
fn at_every_door<C>(cluster: &Cluster, over: &Over, client: impl Fn(SocketAddr) -> C) -> Vec<Counting>
where
    C: AsyncFnOnce(&AtomicBool) -> anyhow::Result<usize> + Send + 'static,
{
    let start = |door| {
        let (over, entrance, client) = (Arc::clone(&over.0), cluster.internet.entrance(), client(door));
        thread::spawn(move || entrance.within_async(async move || client(&over).await))
    };
    cluster.doors(443).into_iter().map(start).collect()
}

fn counts(clients: Vec<Counting>) -> anyhow::Result<Vec<usize>> {
    clients.into_iter().map(|client| client.join().expect("a client that didn't panic")).collect()
}

/// One after the other.
async fn handshakes(door: SocketAddr, certificate: &[u8], over: &AtomicBool) -> anyhow::Result<usize> {
    let (mut count, mut pace) = (0, interval(PACE));
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        let (seen, answer) = https::get(door, HOST).await.with_context(|| format!("after {count}"))?;
        ensure!(answer.status == 200 && seen == certificate, "{door}, after {count}: answered with {answer}");
        count += 1;
    }
    Ok(count)
}

async fn make_in_turn(mut calls: [Call; 2], over: &AtomicBool) -> anyhow::Result<usize> {
    let (mut count, mut pace) = (0, interval(CALL_PACE));
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        calls[count % 2].make().with_context(|| format!("after {count}"))?;
        count += 1;
    }
    Ok(count)
}
