//! Where Nodegates are Ready: our pods and their nodes, reduced to a few facts, and the addresses that follow from them. No I/O.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::config::{Address, limits::STATUS_REMOVAL_HOLD};

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodFacts {
    /// `spec.nodeName`; empty before it is scheduled.
    pub node: String,
    /// The uid of its controller, such as our DaemonSet; pods without one are nobody's siblings.
    pub controller: Option<String>,
    /// Its condition Ready is true.
    pub ready: bool,
    /// It is being deleted, or has ended for good.
    pub leaving: bool,
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

/// The pods of a namespace and the nodes, as last seen.
#[derive(Debug)]
pub(super) struct Peers {
    own: String,
    /// The uid of our own controller, once known: our own pod may be gone before this process is.
    controller: Option<String>,
    pods: Option<HashMap<String, PodFacts>>,
    nodes: Option<HashMap<String, NodeFacts>>,
    /// Our pods that were looked at before: since when each is down, if it went down then (and wasn't so from its beginning).
    known: Option<HashMap<String, Standing>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Ready, on a Ready node.
    Up,
    /// Went down at that moment.
    Down(Instant),
    /// Has never been up.
    Starting,
}

/// Which addresses an Ingress may bear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Those of nodes where a Nodegate is Ready.
    pub ready: BTreeSet<Address>,
    /// Those of nodes whose Nodegate went down a moment ago: they stay where they are.
    pub held: BTreeSet<Address>,
    /// None of our pods is there to come back, so that there may be no address at all. Otherwise an empty set is no news: the last one stays.
    pub may_be_empty: bool,
}

impl Peers {
    /// Nothing was seen yet. `own`: the name of our own pod.
    pub(super) fn new(own: String) -> Self {
        Self { own, controller: None, pods: None, nodes: None, known: None }
    }

    pub(super) fn pods(&mut self, facts: Facts<PodFacts>) {
        take(&mut self.pods, facts);
        if let Some(own) = self.pods.as_ref().and_then(|pods| pods.get(&self.own)) {
            self.controller.clone_from(&own.controller);
        }
    }

    pub(super) fn nodes(&mut self, facts: Facts<NodeFacts>) {
        take(&mut self.nodes, facts);
    }

    /// Whether both lists are there, but our own pod isn't among them and never was: a wrong name, most likely.
    pub(super) fn lost_itself(&self) -> bool {
        self.nodes.is_some() && self.controller.is_none() && self.pods.as_ref().is_some_and(|pods| !pods.contains_key(&self.own))
    }

    /// The addresses, and when to ask again although nothing happens. Nothing before both lists are complete and our own pod is known. `leaving`: this
    /// process drains, whatever its pod says.
    pub(super) fn view(&mut self, now: Instant, leaving: bool) -> Option<(View, Option<Instant>)> {
        let (pods, nodes) = (self.pods.as_ref()?, self.nodes.as_ref()?);
        if self.controller.is_none() && !pods.contains_key(&self.own) {
            return None;
        }
        let (mut view, mut again) = (View { may_be_empty: true, ..View::default() }, None);
        let mut standings = HashMap::new();
        for (name, pod) in pods {
            let is_own = *name == self.own;
            let is_ours = is_own || (self.controller.is_some() && pod.controller == self.controller);
            if !is_ours || pod.leaving || (is_own && leaving) {
                continue;
            }
            view.may_be_empty = false;
            let node = nodes.get(&pod.node);
            let up = pod.ready && node.is_some_and(|node| node.ready);
            let is_first_look = self.known.is_none();
            let before = self.known.as_ref().and_then(|known| known.get(name)).copied();
            let standing = match before {
                _ if up => Standing::Up,
                Some(Standing::Up) => Standing::Down(now),
                Some(before) => before,
                // A new leader doesn't know since when: for all it knows, a moment.
                None if is_first_look => Standing::Down(now),
                None => Standing::Starting,
            };
            standings.insert(name.clone(), standing);
            let addresses = node.map(|node| node.addresses.as_slice()).unwrap_or_default();
            match standing {
                Standing::Up => view.ready.extend(addresses.iter().cloned()),
                Standing::Down(since) if now.saturating_duration_since(since) < STATUS_REMOVAL_HOLD => {
                    view.held.extend(addresses.iter().cloned());
                    let end = since + STATUS_REMOVAL_HOLD;
                    again = Some(again.map_or(end, |again: Instant| again.min(end)));
                }
                Standing::Down(_) | Standing::Starting => {}
            }
        }
        self.known = Some(standings);
        Some((view, again))
    }
}

fn take<T>(all: &mut Option<HashMap<String, T>>, facts: Facts<T>) {
    match (facts, all) {
        (Facts::All(new), all) => *all = Some(new),
        (Facts::Is(name, object), Some(all)) => {
            all.insert(name, object);
        }
        (Facts::Gone(name), Some(all)) => {
            all.remove(&name);
        }
        // A watch begins with a list.
        (Facts::Is(..) | Facts::Gone(_), None) => {}
    }
}

/// A pod's name and facts.
pub(super) fn pod(pod: Pod) -> (String, PodFacts) {
    let status = pod.status.unwrap_or_default();
    let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let owners = pod.metadata.owner_references.unwrap_or_default();
    let facts = PodFacts {
        node: pod.spec.and_then(|spec| spec.node_name).unwrap_or_default(),
        controller: owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid),
        ready,
        leaving: ended || pod.metadata.deletion_timestamp.is_some(),
    };
    (pod.metadata.name.unwrap_or_default(), facts)
}

/// A node's name and facts.
pub(super) fn node(node: Node) -> (String, NodeFacts) {
    let status = node.status.unwrap_or_default();
    let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let of_type = |wanted: &str| -> Vec<Address> {
        let all = status.addresses.iter().flatten().filter(|address| address.type_ == wanted);
        all.filter_map(|address| address.address.parse().ok()).map(Address::Ip).collect()
    };
    let external = of_type("ExternalIP");
    let addresses = if external.is_empty() { of_type("InternalIP") } else { external };
    (node.metadata.name.unwrap_or_default(), NodeFacts { ready, addresses })
}

#[cfg(test)]
mod tests;
