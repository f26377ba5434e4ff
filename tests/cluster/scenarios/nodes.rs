//! The rig itself: pods on every node answer through their Service from every node and from pods, and cluster DNS resolves.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    thread,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1;
use kube::{Api, ResourceExt, api::ListParams};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime;

use crate::{
    cluster::Cluster,
    http,
    node::{Node, TUNABLES},
    sample::{Sample, list, namespace},
    wait::{PATIENCE, eventually},
};

/// Requests until the last of six pods has been chosen at least once: (5/6)^160 is less than one in a billion.
const REQUESTS: usize = 160;

/// Two pods on each node: of a Service's other pods, one is a neighbour. Each answers with its own name.
const WEB: Sample<'_> = Sample { namespace: "rig-nodes", name: "web", port: 8000, answers_as: "$(POD)" };

pub async fn nodes(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&list(&[namespace("rig-nodes"), WEB.deployment(2 * cluster.nodes.len()), WEB.service(80)]))?;
    cluster.rolled_out("rig-nodes", "web", PATIENCE).await?;
    let address = cluster.kubectl(&["get", "service", "web", "--namespace=rig-nodes", "--output=jsonpath={.spec.clusterIP}"])?;
    let service = SocketAddr::new(address.parse::<IpAddr>()?, 80);
    let pods = Api::<v1::Pod>::namespaced(cluster.client(), "rig-nodes").list(&ListParams::default()).await?.items;
    let all: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
    for node in &cluster.nodes {
        // kube-proxy gets to know of a pod a moment after the Deployment does.
        eventually(&format!("every pod answers through the Service on {}", node.name), PATIENCE, async || {
            let answered = node.namespace.within_async(async || backends(service).await)?;
            ensure!(answered == all, "only {answered:?} answer");
            Ok(())
        })
        .await?;
        let asker = network_of_a_pod(node, &pods)?;
        let answered = within_async(&asker, async || backends(service).await).with_context(|| format!("from a pod on {}", node.name))?;
        ensure!(answered == all, "to a pod on {} only {answered:?} answer; neighbours do where the kernel has br_netfilter", node.name);
        // The node asks cluster DNS: see `private_directories`.
        let resolved = node.run(&["getent", "ahostsv4", "web.rig-nodes.svc.cluster.local"]);
        ensure!(resolved.starts_with(&address), "on {} cluster DNS says {resolved:?}, not {address}", node.name);
        machine_is_spared(node)?;
    }
    cluster.delete_namespace("rig-nodes")?;
    Ok(())
}

/// The names of the pods that answer for a Service.
async fn backends(service: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for _ in 0..REQUESTS {
        let answer = http::get(service, "web.example", "/").await?;
        ensure!(answer.status == 200, "{answer}");
        names.insert(answer.backend().unwrap_or_default());
    }
    Ok(names)
}

/// The network namespace of one of these pods that is on this node.
fn network_of_a_pod(node: &Node, pods: &[v1::Pod]) -> anyhow::Result<File> {
    let here = |pod: &&v1::Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref() == Some(&node.name));
    let pod = pods.iter().find(here).with_context(|| format!("no pod on {}", node.name))?;
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).context("a pod without containers")?;
    let container =
        statuses.iter().find_map(|status| status.container_id.as_ref()?.strip_prefix("containerd://")).context("no container")?;
    // Container, process, state.
    let tasks = node.run(&["ctr", "--namespace", "k8s.io", "tasks", "list"]);
    let task = tasks.lines().find(|line| line.starts_with(container)).with_context(|| format!("{container} is not among {tasks}"))?;
    let process = task.split_whitespace().nth(1).context("a task without a process")?;
    Ok(File::open(format!("/proc/{process}/ns/net"))?)
}

/// As [`crate::namespace::Namespace::within_async`], in a pod's network. Its image holds nothing that could ask.
fn within_async<T: Send>(network: &File, work: impl AsyncFnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let inside = || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
    };
    thread::scope(|scope| scope.spawn(inside).join().expect("it doesn't panic"))
}

/// What a kubelet sets for the whole machine is the node's own here.
fn machine_is_spared(node: &Node) -> anyhow::Result<()> {
    for (path, wanted) in TUNABLES {
        let found = node.run(&["stat", "--file-system", "--format=%T", path]);
        ensure!(found.trim() != "proc", "the kubelet of {} sets the machine's own {path} to {wanted}", node.name);
    }
    Ok(())
}
