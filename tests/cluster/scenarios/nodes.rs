//! The rig itself: pods on every node answer through their Service from every node and from pods, and cluster DNS resolves.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::ensure;

use crate::{
    cluster::Cluster,
    http,
    images::ECHO,
    wait::{PATIENCE, eventually},
};

/// Requests until the last of three pods has been chosen at least once: (2/3)^60 is one in ten milliards.
const REQUESTS: usize = 60;

const APP: &str = r"
apiVersion: v1
kind: Namespace
metadata: { name: rig-nodes }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: rig-nodes }
spec:
  replicas: REPLICAS
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: web } } }
      containers:
      - name: web
        image: IMAGE
        imagePullPolicy: Never
        args: [--listen, '0.0.0.0:8000', --name, $(NODE)]
        env: [{ name: NODE, valueFrom: { fieldRef: { fieldPath: spec.nodeName } } }]
        readinessProbe: { httpGet: { path: /, port: 8000 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: rig-nodes }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8000 }]
";

pub async fn nodes(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&APP.replace("REPLICAS", &cluster.nodes.len().to_string()).replace("IMAGE", ECHO))?;
    cluster.rolled_out("rig-nodes", "web", PATIENCE).await?;
    let address = cluster.kubectl(&["get", "service", "web", "--namespace=rig-nodes", "--output=jsonpath={.spec.clusterIP}"])?;
    let service = SocketAddr::new(address.parse::<IpAddr>()?, 80);
    let all: BTreeSet<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    for node in &cluster.nodes {
        // kube-proxy gets to know of a pod a moment after the Deployment does.
        eventually(&format!("every pod answers through the Service on {}", node.name), PATIENCE, async || {
            let answered = node.namespace.within_async(async || backends(service).await)?;
            ensure!(answered == all, "only {answered:?} answer");
            Ok(())
        })
        .await?;
        // The node asks cluster DNS: see `private_directories`.
        let resolved = node.run(&["getent", "ahostsv4", "web.rig-nodes.svc.cluster.local"]);
        ensure!(resolved.starts_with(&address), "on {} cluster DNS says {resolved:?}, not {address}", node.name);
    }
    cluster.kubectl(&["delete", "namespace", "rig-nodes"])?;
    Ok(())
}

/// The names of the pods that answer for a Service.
async fn backends(service: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for _ in 0..REQUESTS {
        let answer = http::get(service, "web.example", "/").await?;
        ensure!(answer.status == 200, "{answer}");
        names.insert(answer.backend().unwrap_or_default().to_owned());
    }
    Ok(names)
}
