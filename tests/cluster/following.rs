//! Whether controller manager and scheduler, and the nodes, follow an API server that was just started.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    coordination::v1::Lease,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::{
    cluster::Cluster,
    images::PAUSE,
    node::Node,
    wait::{PATIENCE, eventually},
};

/// Waits until the API server knows what these two may do: for a moment after it is ready, it refuses what it hasn't read the roles of.
pub async fn roles_are_known(client: &kube::Client, within: Duration) -> anyhow::Result<()> {
    for (user, group, resource) in [("system:kube-controller-manager", "apps", "daemonsets"), ("system:kube-scheduler", "", "pods")] {
        let review = json!({ "metadata": {}, "spec": { "user": user, "resourceAttributes": { "verb": "watch", "group": group, "resource": resource } } });
        let review: SubjectAccessReview = serde_json::from_value(review)?;
        let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
        eventually(&format!("{user} may watch {resource}"), within, async || {
            let status = reviews.create(&PostParams::default(), &review).await?.status.context("a review without an answer")?;
            ensure!(status.allowed, "{status:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until a new namespace has its service account, without which it takes no pods, and a pod in it the scheduler's verdict. No node
/// suits the pod, so that no kubelet has anything to remove.
pub async fn are_back(client: &kube::Client, within: Duration) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "generateName": "following-" } }))?;
    let name = namespaces.create(&PostParams::default(), &namespace).await?.name_any();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &name);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "nowhere" },
        "spec": { "nodeSelector": { "nowhere": "true" }, "containers": [{ "name": "pause", "image": PAUSE }] },
    }))?;
    eventually("the controllers make a new namespace's service account", within, async || pods.create(&PostParams::default(), &pod).await)
        .await?;
    eventually("the scheduler judges a pod", within, async || {
        let status = pods.get("nowhere").await?.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        ensure!(conditions.iter().any(|condition| condition.type_ == "PodScheduled"), "{conditions:?}");
        Ok(())
    })
    .await?;
    namespaces.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}

/// Starts each node's kube-proxy and kubelet anew, and waits until they follow. By themselves they may take most of a minute after an outage.
pub async fn restart_on_nodes(cluster: &Cluster) -> anyhow::Result<()> {
    // One after the other: to a kubelet that starts, no pod is ready that it hasn't asked itself.
    for node in &cluster.nodes {
        node.stop_kube_proxy();
        node.start_kube_proxy();
        node.stop_kubelet();
        let stopped = Timestamp::now();
        node.start_kubelet();
        kubelet_follows(cluster, node, stopped).await?;
    }
    Ok(())
}

/// Waits until a kubelet has renewed its node's lease since that moment, and all its pods are ready.
async fn kubelet_follows(cluster: &Cluster, node: &Node, since: Timestamp) -> anyhow::Result<()> {
    let (leases, pods) = (Api::<Lease>::namespaced(cluster.client(), "kube-node-lease"), Api::<Pod>::all(cluster.client()));
    let here = ListParams::default().fields(&format!("spec.nodeName={}", node.name));
    eventually(&format!("the kubelet of {} follows again", node.name), PATIENCE, async || {
        let renewed = leases.get(&node.name).await?.spec.and_then(|spec| spec.renew_time).context("a lease without a time")?;
        ensure!(renewed.0 > since, "its lease is of {}", renewed.0);
        let statuses = pods.list(&here).await?.items.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
        let waiting: Vec<String> = statuses.filter(|container| !container.ready).map(|container| container.name).collect();
        ensure!(waiting.is_empty(), "{waiting:?} aren't ready");
        Ok(())
    })
    .await
}
