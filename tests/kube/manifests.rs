//! The shipped manifests against a real API server: it takes them as they are, and the rights that they give are those that Nodegate uses.

#[path = "../cluster/scenarios/lifecycle/right.rs"]
mod right;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    coordination::v1::Lease,
    core::v1::{Event, Namespace, Node, Pod, ServiceAccount},
    networking::v1::{Ingress, IngressClass},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::block_in_place;

use self::right::Right;
use crate::rig::{App, Cluster, Nodegate, built, eventually, objects};

const NAMESPACE: &str = "nodegate-system";

/// The pod that Nodegate takes itself for, and the address of its node.
const POD: &str = "nodegate-x7k2p";
const NODE_ADDRESS: &str = "192.0.2.31";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_takes_every_installation_and_changes_from_one_to_another_leave_nothing_behind() {
    let cluster = Cluster::start().await;
    let kubectl = |arguments: &[&str]| kubectl(&cluster, arguments);
    let client = cluster.client().await;
    let daemon_sets = Api::<DaemonSet>::namespaced(client.clone(), NAMESPACE);
    for installation in installations() {
        let path = installation.to_str().expect("UTF-8");
        let said = kubectl(&["apply", "--validate=strict", "-k", path]);
        assert!(!said.contains("Warning"), "{path}: {said}");
        let rendered: Vec<DaemonSet> = of_kind(&kubectl(&["kustomize", path]), "DaemonSet");
        let live = daemon_sets.get("nodegate").await.expect("the DaemonSet");
        assert_eq!(environment(&live), environment(&rendered[0]), "{path}");
        let rendered: Vec<IngressClass> = of_kind(&kubectl(&["kustomize", path]), "IngressClass");
        let live = Api::<IngressClass>::all(client.clone()).get("nodegate").await.expect("the IngressClass");
        assert_eq!(is_default(&live), is_default(&rendered[0]), "{path}");
    }

    // All installations hold the same objects, so that any of them can be named.
    kubectl(&["delete", "--wait=false", "-k", installations()[0].to_str().expect("UTF-8")]);
    let ours = ListParams::default().labels("app.kubernetes.io/name=nodegate");
    let left = [
        count(Api::<ClusterRole>::all(client.clone()).list(&ours).await),
        count(Api::<ClusterRoleBinding>::all(client.clone()).list(&ours).await),
        count(Api::<IngressClass>::all(client.clone()).list(&ours).await),
        count(Api::<Role>::all(client.clone()).list(&ours).await),
        count(Api::<RoleBinding>::all(client.clone()).list(&ours).await),
        count(Api::<ServiceAccount>::all(client.clone()).list(&ours).await),
        count(Api::<DaemonSet>::all(client.clone()).list(&ours).await),
    ];
    assert_eq!(left, [0; 7]);
    // Emptying a namespace is a controller's work, and there is none here.
    let namespace = Api::<Namespace>::all(client).get(NAMESPACE).await.expect("the namespace");
    assert!(namespace.metadata.deletion_timestamp.is_some(), "{namespace:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_shipped_roles_nothing_is_refused_and_no_right_is_left_unused() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    kubectl(&cluster, &["apply", "-k", installations()[0].to_str().expect("UTF-8")]);
    let token = kubectl(&cluster, &["create", "token", "nodegate", "--namespace", NAMESPACE]);
    let kubeconfig = cluster.kubeconfig_of("shipped", token.trim());
    objects::create_namespace(&client, "shop").await;
    let _app = App::deploy(&client, "shop", "app").await;
    objects::create(&client, "shop", &objects::ingress("web", "shop.example", "app")).await;

    let uid = pretend_to_be_a_pod(&client).await;

    let mut nodegate = Nodegate::start_with(&kubeconfig, &["--pod-name", POD, "--pod-uid", &uid, "--pod-namespace", NAMESPACE]).await;
    nodegate.ready().await;
    nodegate.serves("shop.example", "app").await;
    // As people run it, with `kubectl exec` in the pod.
    let mut check = Command::new(env!("CARGO_BIN_EXE_nodegate"));
    check.args(["check", "--cluster"]).env("KUBECONFIG", &kubeconfig).env_remove("KUBERNETES_SERVICE_HOST");
    let output = block_in_place(|| check.output()).expect("the nodegate binary");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // An Event, and its change once the fault is gone.
    objects::create(&client, "shop", &objects::ingress("broken", "broken.example", "missing")).await;
    event(&client, "UnknownService").await;
    let _missing = App::deploy(&client, "shop", "missing").await;
    event(&client, "Fixed").await;

    let ingresses = Api::<Ingress>::namespaced(client.clone(), "shop");
    eventually("the node's address is in the status", async || {
        let status = ingresses.get_status("web").await.map_err(|error| error.to_string())?.status;
        if format!("{status:?}").contains(NODE_ADDRESS) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;

    // A right that is missing shows where its work isn't done.
    let leases = Api::<Lease>::namespaced(client.clone(), NAMESPACE);
    eventually("the leader has renewed its Lease", async || {
        let spec = leases.get("nodegate").await.map_err(|error| error.to_string())?.spec.unwrap_or_default();
        if spec.renew_time > spec.acquire_time { Ok(()) } else { Err(format!("{spec:?}")) }
    })
    .await;

    let granted = granted(&client).await;
    eventually("every right that is granted is used", async || {
        let used = cluster.requests().iter().map(right::used).collect();
        let left: Vec<&Right> = granted.difference(&used).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("never used: {left:?}")) }
    })
    .await;
    let refused: Vec<_> = cluster.requests().into_iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// There is no kubelet: a Ready pod on a Ready node, by word of mouth. Returns its uid.
async fn pretend_to_be_a_pod(client: &kube::Client) -> String {
    let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    let node: Node = objects::object(json!({ "metadata": { "name": "node-1" } }));
    objects::create_cluster_wide(client, &node).await;
    let status = json!({ "status": { "conditions": ready, "addresses": [{ "type": "InternalIP", "address": NODE_ADDRESS }] } });
    let nodes = Api::<Node>::all(client.clone());
    nodes.patch_status("node-1", &PatchParams::default(), &Patch::Merge(status)).await.expect("the node's status");
    let owner = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "nodegate", "uid": "0", "controller": true });
    let containers = json!([{ "name": "nodegate", "image": "nodegate" }]);
    let pod: Pod = objects::object(json!({
        "metadata": { "name": POD, "ownerReferences": [owner] },
        "spec": { "nodeName": "node-1", "serviceAccountName": "nodegate", "containers": containers },
    }));
    objects::create(client, NAMESPACE, &pod).await;
    let status = json!({ "status": { "phase": "Running", "conditions": ready } });
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let pod = pods.patch_status(POD, &PatchParams::default(), &Patch::Merge(status)).await.expect("the pod's status");
    pod.metadata.uid.expect("its uid")
}

/// Waits for an Event of that reason.
async fn event(client: &kube::Client, reason: &str) {
    let events = Api::<Event>::namespaced(client.clone(), "shop");
    eventually(&format!("an Event {reason}"), async || {
        let found = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        if found.iter().any(|event| event.reason.as_deref() == Some(reason)) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Everything that the shipped roles grant.
async fn granted(client: &kube::Client) -> BTreeSet<Right> {
    let cluster_role = Api::<ClusterRole>::all(client.clone()).get("nodegate").await.expect("the ClusterRole");
    let role = Api::<Role>::namespaced(client.clone(), NAMESPACE).get("nodegate").await.expect("the Role");
    let rules = cluster_role.rules.into_iter().chain(role.rules).flatten();
    rules.flat_map(|rule| right::granted(&rule)).collect()
}

/// The folders of all installations, the base first.
fn installations() -> Vec<PathBuf> {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut found = vec![manifests.join("base")];
    let mut pending = vec![manifests.join("overlays")];
    while let Some(directory) = pending.pop() {
        let below =
            fs::read_dir(&directory).expect("the overlays").map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
        pending.extend(below);
        if directory.join("kustomization.yaml").exists() {
            found.push(directory);
        }
    }
    found
}

/// Runs kubectl with every right. Returns both its outputs.
fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut command = Command::new(built(&["kubectl"]).join("kubectl"));
    command.arg("--kubeconfig").arg(cluster.admin_kubeconfig()).args(arguments).env("NO_PROXY", "*");
    let output = block_in_place(|| command.output()).expect("kubectl");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "kubectl {arguments:?}: {text}");
    text
}

/// The objects of that kind among these documents.
fn of_kind<K: DeserializeOwned>(yaml: &str, kind: &str) -> Vec<K> {
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(yaml).expect("YAML from kubectl");
    objects.into_iter().filter(|object| object["kind"] == kind).map(objects::object).collect()
}

/// The variables of the pod, by name.
fn environment(daemon_set: &DaemonSet) -> Vec<(String, Option<String>)> {
    let pod = daemon_set.spec.template.spec.as_ref().expect("a pod");
    let variables = pod.containers.iter().flat_map(|container| container.env.iter().flatten());
    let mut found: Vec<_> = variables.map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    found.sort();
    found
}

fn is_default(class: &IngressClass) -> bool {
    class.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("ingressclass.kubernetes.io/is-default-class"))
}

fn count<K: Clone>(listed: kube::Result<kube::core::ObjectList<K>>) -> usize {
    listed.expect("a list").items.len()
}
