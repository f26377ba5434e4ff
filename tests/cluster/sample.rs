//! Sample applications: pods of `examples/echo`, whose answers tell which of them it was.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::images::ECHO;

/// How long a pod that is to stop goes on as if nothing had happened, in seconds: what kube-proxy has to take it out of its rules.
const PRE_STOP: u64 = 2;

/// Pods of the sample backend, labelled `app: NAME`, ready once they answer, gone a second after they are told to.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub port: u16,
    /// What [`crate::http::Answer::backend`] says. `$(POD)` and `$(NODE)` stand for the pod's and its node's name.
    pub answers_as: &'a str,
}

impl Sample<'_> {
    /// A Deployment. Its pods are spread evenly over the nodes.
    pub fn deployment(&self, replicas: usize) -> Value {
        let mut object = self.object("Deployment");
        object["spec"]["replicas"] = replicas.into();
        object["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": self.name } },
        }]);
        object
    }

    /// As [`Self::deployment`], of pods that leave as Kubernetes recommends it: a fourth of three is there while they are replaced.
    pub fn leaving_in_peace(&self, replicas: usize) -> Value {
        let mut object = self.deployment(replicas);
        let pod = &mut object["spec"]["template"]["spec"];
        pod["terminationGracePeriodSeconds"] = json!(PRE_STOP + 3);
        pod["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": PRE_STOP } } });
        object
    }

    /// A DaemonSet, on the nodes' own addresses or not.
    pub fn daemon_set(&self, host_network: bool) -> Value {
        let mut object = self.object("DaemonSet");
        object["spec"]["template"]["spec"]["hostNetwork"] = host_network.into();
        object
    }

    /// A Service with a ClusterIP, which leads from `port` to the pods.
    pub fn service(&self, port: u16) -> Value {
        let metadata = json!({ "name": self.name, "namespace": self.namespace });
        let spec = json!({ "selector": { "app": self.name }, "ports": [{ "port": port, "targetPort": self.port }] });
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec })
    }

    fn object(&self, kind: &str) -> Value {
        let labels = json!({ "app": self.name });
        let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
        let container = json!({
            "name": "echo", "image": ECHO, "imagePullPolicy": "Never",
            "args": ["--listen", format!("0.0.0.0:{}", self.port), "--name", self.answers_as],
            "env": [field("POD", "metadata.name"), field("NODE", "spec.nodeName")],
            // Patient: on a starved machine a backend that answers late is not to leave its Service.
            "readinessProbe": { "httpGet": { "path": "/", "port": self.port }, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 10 },
        });
        // No `ports`: those of a pod in the host's network would be reserved on the node.
        let pod = json!({ "terminationGracePeriodSeconds": 1, "containers": [container] });
        json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } },
        })
    }
}

/// Whether the control plane sends requests to a pod.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// An Ingress of our class that leads all of one host to port 80 of a Service.
pub fn ingress(namespace: &str, name: &str, host: &str, service: &str) -> Value {
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": { "service": { "name": service, "port": { "number": 80 } } } });
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": name, "namespace": namespace },
        "spec": { "ingressClassName": "nodegate", "rules": [{ "host": host, "http": { "paths": [path] } }] },
    })
}

/// A Namespace.
pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// Several objects as one document, applied in this order.
pub fn list(items: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}
