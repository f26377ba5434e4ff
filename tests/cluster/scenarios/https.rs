//! TLS on real nodes: port 443 as an ordinary user, certificates from Secrets, a new one without a restart, and a rollout that costs no handshake.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::json;
use tokio::time::interval;

use crate::{
    cluster::Cluster,
    https, install,
    issued::issue,
    sample::{Sample, ingress, list, namespace},
    wait::{PATIENCE, eventually},
};

const HOST: &str = "secure.example";
const NAMESPACE: &str = "rig-https";
const WEB: Sample<'_> = Sample { namespace: NAMESPACE, name: "web", port: 8000, answers_as: "$(NODE)" };
/// Between two handshakes at a node: its processor is busy with more than these.
const PACE: Duration = Duration::from_millis(100);
/// A setting that changes nothing for the load.
const HARMLESS: (&str, &str) = ("NODEGATE_KEEP_ALIVE_TIMEOUT", "5m");

pub async fn https(cluster: &Cluster) -> anyhow::Result<()> {
    let first = issue(&PKCS_ECDSA_P256_SHA256, &[HOST]);
    let mut web = ingress(NAMESPACE, "web", HOST, "web");
    web["spec"]["tls"] = json!([{ "hosts": [HOST], "secretName": "certificate" }]);
    let objects = [namespace(NAMESPACE), first.secret(NAMESPACE, "certificate"), WEB.deployment(cluster.nodes.len()), WEB.service(80), web];
    cluster.apply(&list(&objects))?;
    cluster.rolled_out(NAMESPACE, "web", PATIENCE).await?;

    let installed = install::nodegate(cluster, "overlays/https", &[]).await?;
    served_with(cluster, &first.der).await?;
    let second = issue(&PKCS_ECDSA_P256_SHA256, &[HOST]);
    cluster.apply(&list(&[second.secret(NAMESPACE, "certificate")]))?;
    served_with(cluster, &second.der).await?;
    rollout(cluster, &installed, &second.der).await?;
    install::uninstall(cluster, installed)?;
    cluster.delete_namespace(NAMESPACE)
}

/// Waits until every node answers with this certificate.
async fn served_with(cluster: &Cluster, certificate: &[u8]) -> anyhow::Result<()> {
    for door in cluster.doors(443) {
        eventually(&format!("{door} has the certificate"), PATIENCE, async || {
            let (seen, answer) = cluster.internet.within_async(async || https::get(door, HOST).await)?;
            ensure!(answer.status == 200 && answer.backend().is_some(), "answered with {answer}");
            ensure!(seen == certificate, "it has another one");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// One handshake after the other at every node, while each hands its sockets to a new process.
async fn rollout(cluster: &Cluster, installed: &install::Installed, certificate: &[u8]) -> anyhow::Result<()> {
    // Within `minReadySeconds` a pod isn't available yet, and the controller replaces such ones on all nodes at once.
    cluster.kubectl(&["rollout", "status", "daemonset/nodegate", "--namespace=nodegate-system", "--timeout=60s"])?;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = cluster
        .doors(443)
        .into_iter()
        .map(|door| {
            let (over, entrance, certificate) = (Arc::clone(&over), cluster.internet.entrance(), certificate.to_vec());
            thread::spawn(move || entrance.within_async(async || handshakes(door, &certificate, &over).await))
        })
        .collect();
    let changed = install::change(cluster, installed, &[HARMLESS]).await;
    over.store(true, Ordering::Relaxed);
    let counts = clients.into_iter().map(|client| client.join().expect("a client that didn't panic")).collect::<anyhow::Result<Vec<_>>>();
    changed?;
    println!("https: {:?} handshakes at the nodes during a rollout, none failed", counts.context("during a rollout")?);
    Ok(())
}

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
