//! The status of Ingresses: whose addresses are in it, when they get there, and when they go.

use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;

use crate::rig::{App, Cluster, Site, eventually, objects};

/// The addresses in an Ingress's status, in order.
fn addresses(ingress: &Ingress) -> Vec<String> {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    entries.map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone()).unwrap_or_default()).collect()
}

impl Site {
    /// Waits until an Ingress bears exactly these addresses.
    async fn bears(&self, name: &str, expected: &[&str]) {
        let ingresses = Api::<Ingress>::namespaced(self.client.clone(), self.namespace);
        eventually(&format!("Ingress {name} bears {expected:?}"), async || {
            let found = addresses(&ingresses.get(name).await.map_err(|error| error.to_string())?);
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_where_a_pod_is_ready_are_told_sorted_and_once() {
    let cluster = Cluster::shared();
    let site = Site::new(cluster, "status-filled").await;
    let kubeconfig = cluster.nodegate_kubeconfig(cluster.api_address());
    let _app = App::deploy(&site.client, site.namespace, "app").await;
    objects::create(&site.client, site.namespace, &objects::ingress("web", "filled.example", "app")).await;

    let _second = site.member(&kubeconfig, "b", "192.0.2.12".parse().unwrap()).await;
    site.bears("web", &["192.0.2.12"]).await;
    let _first = site.member(&kubeconfig, "a", "192.0.2.2".parse().unwrap()).await;
    site.bears("web", &["192.0.2.2", "192.0.2.12"]).await;
}
