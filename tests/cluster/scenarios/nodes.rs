//! The rig itself: pods on every node answer through their Service from every node and from pods, and cluster DNS resolves.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::ensure;

use crate::{
    cluster::Cluster,
    http,
    sample::{Sample, list, namespace},
    wait::{PATIENCE, eventually},
};

/// Requests until the last of three pods has been chosen at least once: (2/3)^60 is one in ten milliards.
const REQUESTS: usize = 60;

/// Each pod answers with its node's name.
const WEB: Sample<'_> = Sample { namespace: "rig-nodes", name: "web", port: 8000, answers_as: "$(NODE)" };

pub async fn nodes(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&list(&[namespace("rig-nodes"), WEB.deployment(cluster.nodes.len()), WEB.service(80)]))?;
    cluster.rolled_out("rig-nodes", "web", PATIENCE).await?;
    let address = cluster.kubectl(&["get", "service", "web", "--namespace=rig-nodes", "--output=jsonpath={.spec.clusterIP}"])?;
    let service = SocketAddr::new(address.parse::<IpAddr>()?, 80);
    let all: BTreeSet<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    for node in &cluster.nodes {
        // kube-proxy gets to know of a pod a moment after the Deployment does.
        eventually(&format!("every pod answers through the Service on {}", node.name), PATIENCE, async || {
            let answered = node.namespace.within_async(async || backends(service).await)?;
            ensure!(answered == all, "only {answered:?} answer");
            Ok(())
        })
        .await?;
        // The node asks cluster DNS: see `private_directories`.
        let resolved = node.run(&["getent", "ahostsv4", "web.rig-nodes.svc.cluster.local"]);
        ensure!(resolved.starts_with(&address), "on {} cluster DNS says {resolved:?}, not {address}", node.name);
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
