//! The rig itself: what it breaks is broken, nothing else is, and it is whole again afterwards. No Nodegate in it.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1;
use kube::{Api, api::ListParams};

use crate::{
    cluster::{Cluster, is_ready},
    http,
    load::Load,
    namespace::Namespace,
    network,
    sample::{Sample, list, namespace},
    wait::{PATIENCE, eventually},
};

const PORT: u16 = 18000;
/// Enough for a connection over the overlay.
const SOON: Duration = Duration::from_secs(2);

/// A pod on each node's own address.
const HOST: Sample<'_> = Sample { namespace: "rig-faults", name: "host", port: PORT, answers_as: "$(NODE)" };
/// One on each node behind the overlay.
const PODS: Sample<'_> = Sample { name: "pods", ..HOST };

pub async fn faults(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&list(&[namespace("rig-faults"), HOST.daemon_set(true), PODS.daemon_set(false)]))?;
    for set in ["daemonset/host", "daemonset/pods"] {
        cluster.rollout("rig-faults", set, &["status", "--timeout=180s"])?;
    }
    let hosts: Vec<SocketAddr> = cluster.nodes.iter().map(|node| (node.address, PORT).into()).collect();
    clients_keep_their_address(cluster, hosts[0])?;
    let load = Load::start(&cluster.internet, &hosts[..2], "faults.example", 20);
    overlay_breaks_between_two_nodes_only(cluster).await?;
    api_server_stops(cluster).await?;
    lost_node_is_noticed(cluster, hosts[2]).await?;
    stopped_kubelet_is_noticed(cluster).await?;
    let tally = load.stop();
    tally.all_succeeded().context("nothing of this concerns the first two nodes' own addresses")?;
    ensure!(tally.by_backend.len() == 2, "both nodes have to answer: {:?}", tally.by_backend);
    cluster.delete_namespace("rig-faults")?;
    Ok(())
}

fn clients_keep_their_address(cluster: &Cluster, host: SocketAddr) -> anyhow::Result<()> {
    let answer = cluster.internet.within_async(async || http::get(host, "faults.example", "/").await)?;
    let account: serde_json::Value = serde_json::from_str(&answer.body)?;
    let peer: SocketAddr = account["peer"].as_str().unwrap_or_default().parse()?;
    ensure!(peer.ip() == network::client_address(10), "a node sees the client as {peer}");
    Ok(())
}

async fn overlay_breaks_between_two_nodes_only(cluster: &Cluster) -> anyhow::Result<()> {
    let (first, second) = (cluster.node(1), cluster.node(2));
    let pods = [pod_on(cluster, "n2").await?, pod_on(cluster, "n3").await?];
    let reached = |from: &Namespace| pods.map(|pod| reaches(from, pod));
    let become_reached = async |what: &str, wanted: ([bool; 2], [bool; 2])| {
        eventually(what, PATIENCE, async || {
            let reached = (reached(&first.namespace), reached(&second.namespace));
            ensure!(reached == wanted, "n1 and n2 reach {reached:?} of the pods on n2 and n3");
            Ok(())
        })
        .await
    };
    let all = ([true, true], [true, true]);
    become_reached("all pods are in reach at first", all).await?;
    network::set_overlay(first, second, true);
    let broken = become_reached("only n1 and n2 lose each other", ([false, true], [true, true])).await;
    network::set_overlay(first, second, false);
    broken?;
    become_reached("all pods are in reach again", all).await
}

async fn api_server_stops(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.stop_api_server();
    ensure!(cluster.client().apiserver_version().await.is_err(), "it still answers");
    cluster.start_api_server().await
}

async fn lost_node_is_noticed(cluster: &Cluster, host: SocketAddr) -> anyhow::Result<()> {
    cluster.node(3).set_link(false);
    let lost = ready_is(cluster, "n3", false).await;
    let reached = reaches(&cluster.internet, host);
    cluster.node(3).set_link(true);
    lost?;
    ensure!(!reached, "n3 still answers clients");
    ready_is(cluster, "n3", true).await?;
    eventually("n3 answers clients", PATIENCE, async || if reaches(&cluster.internet, host) { Ok(()) } else { Err("no connection") }).await
}

async fn stopped_kubelet_is_noticed(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.node(2).stop_kubelet();
    let lost = ready_is(cluster, "n2", false).await;
    cluster.node(2).start_kubelet();
    lost?;
    ready_is(cluster, "n2", true).await
}

async fn ready_is(cluster: &Cluster, node: &str, wanted: bool) -> anyhow::Result<()> {
    let nodes: Api<v1::Node> = Api::all(cluster.client());
    eventually(&format!("Ready of {node} is {wanted}"), PATIENCE, async || {
        let ready = is_ready(&nodes.get(node).await?);
        ensure!(ready == wanted, "it is {ready}");
        Ok(())
    })
    .await
}

async fn pod_on(cluster: &Cluster, node: &str) -> anyhow::Result<SocketAddr> {
    let pods: Api<v1::Pod> = Api::namespaced(cluster.client(), "rig-faults");
    let found = pods.list(&ListParams::default().labels("app=pods").fields(&format!("spec.nodeName={node}"))).await?;
    let pod = found.items.first().with_context(|| format!("no pod on {node}"))?;
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).context("a pod without an address")?;
    Ok(SocketAddr::new(address.parse::<IpAddr>()?, PORT))
}

fn reaches(from: &Namespace, address: SocketAddr) -> bool {
    from.within(|| TcpStream::connect_timeout(&address, SOON).is_ok())
}
