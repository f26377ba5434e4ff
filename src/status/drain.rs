//! The end of a node's service: waits until no Ingress sends clients here any more. Whoever leads does the writing; we see it in what the source shows.

use std::collections::BTreeSet;

use kube::{Api, Client, Error, api::ListParams};
use tokio::sync::watch::Receiver;

use super::{
    Settings,
    facts::{self, NodeExcerpt, PodExcerpt, PodFacts},
    target::borne,
};
use crate::{
    config::Address,
    source::{Report, Served, reason},
};

/// Waits until no Ingress of ours bears an address of this node; not at all if another of our pods is Ready on this node. Where the addresses are given in
/// place of the nodes': until no Ingress bears one of those; not at all if another of our pods stays, wherever. Returns whether that is so, or else the API
/// server didn't say which addresses these are. Without a deadline of its own.
pub async fn withdrawn(client: Client, settings: Settings, mut report: Receiver<Report>) -> bool {
    let Settings { namespace, pod, publish, manager: _ } = settings;
    let Some(pod) = pod else { return true };
    match leaving(&client, &namespace, &pod, publish).await {
        Ok(addresses) => {
            // The sender lives as long as the process.
            let _ = report.wait_for(|report| !report.ingresses.iter().any(|served| bears(served, &addresses))).await;
            true
        }
        Err(error) => {
            tracing::warn!(error = reason(&error), "can't find out where this pod runs: not waiting for its withdrawal");
            false
        }
    }
}

fn bears(served: &Served, addresses: &BTreeSet<Address>) -> bool {
    served.accepted && !addresses.is_empty() && borne(&served.object).iter().flatten().any(|address| addresses.contains(address))
}

/// The addresses that go with this pod: its node's, unless another of ours is Ready there; or what is to be published, unless another of ours stays.
async fn leaving(client: &Client, namespace: &str, own: &str, publish: BTreeSet<Address>) -> Result<BTreeSet<Address>, Error> {
    let pods = Api::<PodExcerpt>::namespaced(client.clone(), namespace);
    let this = pods.list(&ListParams::default().fields(&format!("metadata.name={own}"))).await?.items.pop();
    let Some((_, this)) = this.map(facts::pod) else { return Ok(BTreeSet::new()) };
    let is_sibling =
        |name: &str, pod: &PodFacts| name != own && pod.controller.is_some() && pod.controller == this.controller && !pod.leaving;
    if !publish.is_empty() {
        let all = pods.list(&ListParams::default()).await?;
        let stays = all.items.into_iter().map(facts::pod).any(|(name, pod)| is_sibling(&name, &pod));
        return Ok(if stays { BTreeSet::new() } else { publish });
    }
    let here = pods.list(&ListParams::default().fields(&format!("spec.nodeName={}", this.node))).await?;
    let stays = here.items.into_iter().map(facts::pod).any(|(name, pod)| is_sibling(&name, &pod) && pod.ready);
    if stays || this.node.is_empty() {
        return Ok(BTreeSet::new());
    }
    let nodes = Api::<NodeExcerpt>::all(client.clone());
    let node = nodes.list(&ListParams::default().fields(&format!("metadata.name={}", this.node))).await?.items.pop();
    Ok(node.map(|node| facts::node(node).1.addresses.into_iter().collect()).unwrap_or_default())
}
