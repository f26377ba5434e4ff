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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(last: &[u8]) -> BTreeSet<Address> {
        last.iter().map(|last| Address::Ip([192, 0, 2, *last].into())).collect()
    }

    fn bearing(entries: &Value) -> Borne {
        borne(&serde_json::from_value(json!({"status": {"loadBalancer": {"ingress": entries}}})).unwrap())
    }

    #[test]
    fn a_status_is_written_only_when_it_differs_and_taken_away_only_where_it_is_ours() {
        let ours = json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]);
        let foreign = json!([{"ip": "203.0.113.9"}]);
        let say = |last: &[u8]| Target::Say(Arc::new(set(last)));
        // (accepted, what it bears, it is our writing, ready, held, may be empty, what becomes of it)
        for (case, (accepted, borne, is_ours, ready, held, may_be_empty, expected)) in [
            (true, &ours, true, &[1, 2][..], &[][..], false, Target::Leave),
            (true, &ours, false, &[1, 2], &[], false, Target::Leave),
            (true, &ours, true, &[1], &[], false, say(&[1])),
            (true, &json!([{"ip": "192.0.2.2"}, {"ip": "192.0.2.1"}]), true, &[1, 2], &[], false, say(&[1, 2])),
            (true, &json!([{"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}]), true, &[1], &[], false, say(&[1])),
            (true, &foreign, false, &[1], &[], false, say(&[1])),
            (true, &json!([]), false, &[1], &[], false, say(&[1])),
            // What is held stays where it is, and comes nowhere else.
            (true, &ours, true, &[1], &[2], false, Target::Leave),
            (true, &json!([]), true, &[1], &[2], false, say(&[1])),
            (true, &ours, true, &[3], &[2], false, say(&[2, 3])),
            // No address at all is no news unless all of us drain.
            (true, &ours, true, &[], &[], false, Target::Leave),
            (true, &ours, true, &[], &[], true, Target::Withdraw),
            (true, &foreign, false, &[], &[], true, Target::Leave),
            (true, &json!([]), false, &[], &[], true, Target::Leave),
            (false, &ours, true, &[1, 2], &[1], false, Target::Withdraw),
            (false, &ours, false, &[1], &[], false, Target::Leave),
            (false, &foreign, false, &[1], &[], true, Target::Leave),
        ]
        .into_iter()
        .enumerate()
        {
            let view = View { ready: set(ready), held: set(held), may_be_empty };
            assert_eq!(target(accepted, &bearing(borne), is_ours, &view, &Arc::new(set(ready))), expected, "case {case}");
        }
    }

    #[test]
    fn a_patch_is_for_exactly_one_version_and_says_nothing_but_the_addresses() {
        let object = json!({"metadata": {"namespace": "n", "name": "i", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}}});
        let served = Served { object: Arc::new(serde_json::from_value(object).unwrap()), previous: None, accepted: true };
        let addresses = [Address::Name("lb.example".into()), Address::Ip([192, 0, 2, 1].into())].into();
        let metadata = json!({"namespace": "n", "name": "i", "uid": "u", "resourceVersion": "8"});
        let expected =
            |status: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "status": status});
        let entries = json!([{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]);
        assert_eq!(patch(&served, "8", &addresses), expected(json!({"loadBalancer": {"ingress": entries}})));
        assert_eq!(patch(&served, "8", &BTreeSet::new()), expected(json!({})));
    }
}
