//! What is read of objects as an API server sends them.

use serde_json::json;

use super::*;

#[test]
fn facts_are_read_from_the_objects_as_kubernetes_writes_them() {
    let object = json!({
        "metadata": {"name": "p", "uid": "u", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "not-it"},
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "ours", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"conditions": [{"type": "ContainersReady", "status": "False"}, {"type": "Ready", "status": "True"}]},
    });
    let read = |change: serde_json::Value| {
        let mut object = object.clone();
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        pod(serde_json::from_value(object).unwrap()).1
    };
    let up = PodFacts { uid: "u".into(), node: "n1".into(), controller: Some("ours".into()), ready: true, leaving: false, started: None };
    assert_eq!(read(json!({})), up);
    assert_eq!(read(json!({"/status/conditions": [{"type": "Ready", "status": "Unknown"}]})), PodFacts { ready: false, ..up.clone() });
    assert_eq!(read(json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"})), PodFacts { leaving: true, ..up.clone() });
    let containers = json!([{"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}, {"state": {"waiting": {"reason": "x"}}}, {}]);
    let started = Some("2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(read(json!({"/status/containerStatuses": containers})), PodFacts { started, ..up.clone() });
    assert_eq!(read(json!({"/status/phase": "Failed"})), PodFacts { leaving: true, ..up.clone() }, "evicted");

    let addresses = |addresses: &[(&str, &str)]| {
        let addresses: Vec<_> = addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let value = json!({"metadata": {"name": "n"}, "status": {"addresses": addresses, "conditions": conditions}});
        let (_, facts) = node(serde_json::from_value(value).unwrap());
        assert!(facts.ready);
        facts.addresses.iter().map(|address| format!("{address:?}")).collect::<Vec<_>>().join(" ")
    };
    let internal = [("Hostname", "n"), ("InternalIP", "10.0.0.1"), ("InternalIP", "fd00::1")];
    assert_eq!(addresses(&internal), "Ip(10.0.0.1) Ip(fd00::1)");
    let both = [("InternalIP", "10.0.0.1"), ("ExternalIP", "192.0.2.1"), ("ExternalDNS", "n.example"), ("ExternalIP", "nonsense")];
    assert_eq!(addresses(&both), "Ip(192.0.2.1)");
}
