//! What an Ingress's status should say, and whether it says so already. No I/O.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress};
use serde_json::{Value, json};

use super::peers::View;
use crate::{config::Address, source::Served};

/// The addresses that an Ingress bears, in order; `None` for an entry that we would never write.
pub(super) type Borne = Vec<Option<Address>>;

/// What is to become of an Ingress's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// It is right, or none of our business.
    Leave,
    /// These addresses are to be in it.
    Say(Arc<BTreeSet<Address>>),
    /// What we have written is to go; what others have stays.
    Withdraw,
}

/// `borne` and `ours` are what the object's status is now, which may be newer than the object: its addresses, and whether they were written by us.
pub(super) fn target(accepted: bool, borne: &Borne, ours: bool, view: &View, ready: &Arc<BTreeSet<Address>>) -> Target {
    let withdraw = if ours && !borne.is_empty() { Target::Withdraw } else { Target::Leave };
    if !accepted {
        return withdraw;
    }
    let held: BTreeSet<&Address> = borne.iter().flatten().filter(|address| view.held.contains(address)).collect();
    let wanted =
        if held.is_empty() { Arc::clone(ready) } else { Arc::new(held.into_iter().chain(ready.iter()).cloned().collect::<BTreeSet<_>>()) };
    match (wanted.is_empty(), view.may_be_empty) {
        (true, true) => withdraw,
        (true, false) => Target::Leave,
        (false, _) if borne.iter().map(Option::as_ref).eq(wanted.iter().map(Some)) => Target::Leave,
        (false, _) => Target::Say(wanted),
    }
}

/// The addresses in an Ingress's status.
pub(super) fn borne(ingress: &Ingress) -> Borne {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten().map(address).collect()
}

fn address(entry: &IngressLoadBalancerIngress) -> Option<Address> {
    let IngressLoadBalancerIngress { hostname, ip, ports } = entry;
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (text(hostname), text(ip), ports.as_ref().is_none_or(Vec::is_empty)) {
        (Some(name), None, true) => Some(Address::Name(name)),
        (None, Some(ip), true) => ip.parse().ok().map(Address::Ip),
        _ => None,
    }
}

/// Whether the field manager `manager` keeps the addresses in the status: the source has left the names of those who do.
pub(super) fn is_kept_by(ingress: &Ingress, manager: &str) -> bool {
    ingress.metadata.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(manager))
}

/// What to apply: exactly what we keep, to exactly that version. Without addresses: nothing, and the API server takes away what was ours alone.
pub(super) fn patch(served: &Served, version: &str, addresses: &BTreeSet<Address>) -> Value {
    let metadata = &served.object.metadata;
    let entry = |address: &Address| match address {
        Address::Ip(ip) => json!({ "ip": ip.to_string() }),
        Address::Name(name) => json!({ "hostname": name }),
    };
    let status = if addresses.is_empty() {
        json!({})
    } else {
        json!({ "loadBalancer": { "ingress": addresses.iter().map(entry).collect::<Vec<_>>() } })
    };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
            "resourceVersion": version,
        },
        "status": status,
    })
}
