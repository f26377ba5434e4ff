//! Nodes and Nodegate's pods as objects: there is no kubelet, so that the test says what one would.

use std::path::Path;

use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Clock, Cluster, Nodegate, objects};

/// The uid of a DaemonSet that nobody has created.
const DAEMON_SET: &str = "5f1d7a52-0f6c-4d1c-9a0c-3a1c6c1b6f00";

/// A namespace with Nodegates, one on each node.
pub struct Site {
    pub client: Client,
    pub namespace: &'static str,
    pub flags: Vec<String>,
}

impl Site {
    /// A new namespace, which alone its Nodegates look at.
    pub async fn new(cluster: &Cluster, namespace: &'static str) -> Self {
        let client = cluster.client().await;
        objects::create_namespace(&client, namespace).await;
        // The API server wants one for each pod, and the controller that makes it isn't here.
        objects::create::<ServiceAccount>(&client, namespace, &objects::object(json!({ "metadata": { "name": "default" } }))).await;
        let flags = ["--watch-namespace", namespace, "--pod-namespace", namespace, "--lease-duration", "3s"];
        Self { client, namespace, flags: flags.map(str::to_owned).to_vec() }
    }

    /// As [`Site::new`], with more flags for its Nodegates.
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }

    /// The name of a node of this site, for a short name.
    pub fn node_name(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// Creates a Ready node with these addresses, as (type, address).
    pub async fn node(&self, name: &str, addresses: &[(&str, &str)]) {
        let name = self.node_name(name);
        let addresses: Vec<Value> = addresses.iter().map(|(kind, address)| json!({ "type": kind, "address": address })).collect();
        objects::create_cluster_wide::<Node>(&self.client, &objects::object(json!({ "metadata": { "name": name } }))).await;
        self.node_status(&name, json!({ "addresses": addresses, "conditions": ready(true) })).await;
    }

    /// Says of a node that it is Ready or not, as the node controller would.
    pub async fn node_ready(&self, name: &str, is: bool) {
        self.node_status(&self.node_name(name), json!({ "conditions": ready(is) })).await;
    }

    /// Deletes a node; its pods stay until somebody notices.
    pub async fn node_gone(&self, name: &str) {
        objects::delete_cluster_wide::<Node>(&self.client, &self.node_name(name)).await;
    }

    async fn node_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        Api::<Node>::all(self.client.clone()).patch_status(name, &PatchParams::default(), &patch).await.expect("a node's status");
    }

    /// Creates a pod of ours on a node, not Ready.
    pub async fn pod(&self, name: &str, node: &str) {
        self.pod_of(DAEMON_SET, name, node).await;
    }

    /// Creates a pod of another controller on a node, not Ready.
    pub async fn foreign_pod(&self, name: &str, node: &str) {
        self.pod_of("00000000-0000-4000-8000-000000000000", name, node).await;
    }

    async fn pod_of(&self, uid: &str, name: &str, node: &str) {
        let owner = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "nodegate", "uid": uid, "controller": true });
        let pod = json!({
            "metadata": { "name": name, "labels": { "app.kubernetes.io/name": "nodegate" }, "ownerReferences": [owner] },
            "spec": { "nodeName": self.node_name(node), "containers": [{ "name": "nodegate", "image": "nodegate" }] },
        });
        objects::create::<Pod>(&self.client, self.namespace, &objects::object(pod)).await;
    }

    /// Which of all pods that ever had its name.
    pub async fn pod_uid(&self, name: &str) -> String {
        let pod = Api::<Pod>::namespaced(self.client.clone(), self.namespace).get(name).await.expect("a pod");
        pod.metadata.uid.expect("its uid")
    }

    /// Says of a pod that it is Ready or not, as the kubelet would.
    pub async fn pod_ready(&self, name: &str, is: bool) {
        let patch = Patch::Merge(json!({ "status": { "phase": "Running", "conditions": ready(is) } }));
        let pods = Api::<Pod>::namespaced(self.client.clone(), self.namespace);
        pods.patch_status(name, &PatchParams::default(), &patch).await.expect("a pod's status");
    }

    /// Deletes a pod: it is there, and terminating, until [`Site::pod_gone`].
    pub async fn pod_terminates(&self, name: &str) {
        objects::delete::<Pod>(&self.client, self.namespace, name).await;
    }

    /// Says that a pod has ended, as the kubelet would.
    pub async fn pod_gone(&self, name: &str) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), self.namespace);
        pods.delete(name, &DeleteParams::default().grace_period(0)).await.expect("a pod's end");
    }

    /// Starts the Nodegate of a pod, on ports of its own. It is Ready, and its pod isn't yet.
    pub async fn nodegate(&self, kubeconfig: &Path, pod: &str) -> Nodegate {
        self.nodegate_by(kubeconfig, pod, None).await
    }

    async fn nodegate_by(&self, kubeconfig: &Path, pod: &str, clock: Option<&Clock>) -> Nodegate {
        let uid = self.pod_uid(pod).await;
        let mut flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        flags.extend(["--pod-name", pod, "--pod-uid", &uid]);
        let mut nodegate = Nodegate::start_by(kubeconfig, &flags, clock).await;
        nodegate.ready().await;
        nodegate
    }

    /// A node with one InternalIP, and a Ready pod of the same name on it with its Nodegate.
    pub async fn member(&self, kubeconfig: &Path, name: &str, address: &str) -> Nodegate {
        self.member_by(kubeconfig, name, address, None).await
    }

    /// As [`Site::member`], where the Nodegate has a wall clock of its own.
    pub async fn member_by(&self, kubeconfig: &Path, name: &str, address: &str, clock: Option<&Clock>) -> Nodegate {
        self.node(name, &[("InternalIP", address)]).await;
        self.pod(name, name).await;
        let nodegate = self.nodegate_by(kubeconfig, name, clock).await;
        self.pod_ready(name, true).await;
        nodegate
    }
}

fn ready(is: bool) -> Value {
    json!([{ "type": "Ready", "status": if is { "True" } else { "False" }, "lastTransitionTime": null, "reason": "Test", "message": "" }])
}
