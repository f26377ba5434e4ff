//! What is read of a pod or a node: a few facts of each.

use std::{collections::HashMap, marker::PhantomData};

use jiff::Timestamp;
use k8s_openapi::{
    Metadata, Resource,
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::config::Address;

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// `metadata.uid`: which of all pods that ever had its name.
    pub uid: String,
    /// `spec.nodeName`; empty before it is scheduled.
    pub node: String,
    /// The uid of its controller, such as our DaemonSet; pods without one are nobody's siblings.
    pub controller: Option<String>,
    /// Its condition Ready is true.
    pub ready: bool,
    /// It is being deleted, or has ended for good.
    pub leaving: bool,
    /// When the youngest of its containers began to run, by the node's clock.
    pub started: Option<Timestamp>,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeFacts {
    /// Its condition Ready is true.
    pub ready: bool,
    /// The ExternalIPs, else the InternalIPs.
    pub addresses: Vec<Address>,
}

/// What a watch brings.
#[derive(Debug)]
pub(super) enum Facts<T> {
    /// An object is there, or has changed.
    Is(String, T),
    /// An object is gone.
    Gone(String),
    /// All that there are.
    All(HashMap<String, T>),
}

/// An object of kind `K`, reduced to what the facts come from while it is parsed. To read whole pods takes megabytes of code.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound(deserialize = "P: Default + Deserialize<'de>, U: Default + Deserialize<'de>"))]
pub(super) struct Excerpt<K, P, U> {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: P,
    #[serde(default)]
    status: U,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// Of a pod.
pub(super) type PodExcerpt = Excerpt<Pod, PodSpec, PodStatus>;
/// Of a node.
pub(super) type NodeExcerpt = Excerpt<Node, IgnoredAny, NodeStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    node_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    phase: String,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    conditions: Vec<Condition>,
    addresses: Vec<NodeAddress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    running: Option<Running>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    started_at: Option<Time>,
}

#[derive(Debug, Clone, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeAddress {
    r#type: String,
    address: String,
}

impl<K: Resource, P, U> Resource for Excerpt<K, P, U> {
    const API_VERSION: &'static str = K::API_VERSION;
    const GROUP: &'static str = K::GROUP;
    const KIND: &'static str = K::KIND;
    const VERSION: &'static str = K::VERSION;
    const URL_PATH_SEGMENT: &'static str = K::URL_PATH_SEGMENT;
    type Scope = K::Scope;
}

impl<K: Resource, P, U> Metadata for Excerpt<K, P, U> {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A pod's name and facts.
pub(super) fn pod(pod: PodExcerpt) -> (String, PodFacts) {
    let Excerpt { metadata, spec, status, kind: _ } = pod;
    let ended = matches!(&*status.phase, "Failed" | "Succeeded");
    let owners = metadata.owner_references.unwrap_or_default();
    let facts = PodFacts {
        uid: metadata.uid.unwrap_or_default(),
        node: spec.node_name,
        controller: owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid),
        ready: is_ready(&status.conditions),
        leaving: ended || metadata.deletion_timestamp.is_some(),
        started: status.container_statuses.into_iter().filter_map(|container| container.state.running?.started_at).map(|time| time.0).max(),
    };
    (metadata.name.unwrap_or_default(), facts)
}

/// A node's name and facts.
pub(super) fn node(node: NodeExcerpt) -> (String, NodeFacts) {
    let Excerpt { metadata, status, spec: _, kind: _ } = node;
    let of_type = |wanted: &str| -> Vec<Address> {
        let all = status.addresses.iter().filter(|address| address.r#type == wanted);
        all.filter_map(|address| address.address.parse().ok()).map(Address::Ip).collect()
    };
    let external = of_type("ExternalIP");
    let addresses = if external.is_empty() { of_type("InternalIP") } else { external };
    (metadata.name.unwrap_or_default(), NodeFacts { ready: is_ready(&status.conditions), addresses })
}

fn is_ready(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| condition.r#type == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests;
