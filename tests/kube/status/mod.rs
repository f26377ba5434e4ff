//! The status of Ingresses: whose addresses are in it, when they get there, when they go, and who writes them.

mod addresses;
mod leaders;
mod others;
mod uninstall;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use k8s_openapi::api::{
    coordination::v1::{Lease, LeaseSpec},
    networking::v1::Ingress,
};
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use tokio::task::JoinHandle;

use crate::rig::{App, Cluster, Nodegate, Site, eventually, objects};

/// A site on the shared control plane with an Ingress `web`, whose host is `<namespace>.example`.
async fn begin(namespace: &'static str) -> (Site, PathBuf, App) {
    begin_on(Cluster::shared(), namespace).await
}

async fn begin_on(cluster: &Cluster, namespace: &'static str) -> (Site, PathBuf, App) {
    let site = Site::new(cluster, namespace).await;
    let app = App::deploy(&site.client, namespace, "app").await;
    objects::create(&site.client, namespace, &objects::ingress("web", &format!("{namespace}.example"), "app")).await;
    (site, cluster.nodegate_kubeconfig(cluster.api_address()), app)
}

/// The addresses in an Ingress's status, in order.
fn addresses(ingress: &Ingress) -> Vec<String> {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    entries.map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone()).unwrap_or_default()).collect()
}

impl Site {
    fn ingresses(&self) -> Api<Ingress> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// What an Ingress bears now.
    async fn borne(&self, name: &str) -> Vec<String> {
        addresses(&self.ingresses().get(name).await.expect("the Ingress"))
    }

    /// Waits until an Ingress bears exactly these addresses.
    async fn bears(&self, name: &str, expected: &[&str]) {
        let ingresses = self.ingresses();
        eventually(&format!("Ingress {name} bears {expected:?}"), async || {
            let found = addresses(&ingresses.get(name).await.map_err(|error| error.to_string())?);
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    /// Who holds the Lease now.
    async fn holder(&self) -> Option<String> {
        self.lease().await?.holder_identity
    }

    /// What the Lease says now.
    async fn lease(&self) -> Option<LeaseSpec> {
        Api::<Lease>::namespaced(self.client.clone(), self.namespace).get_opt("nodegate").await.expect("an answer")?.spec
    }

    /// Waits until another holds the Lease than `before`; returns who.
    async fn leader_after(&self, before: &str) -> String {
        eventually(&format!("another leads than {before:?}"), async || {
            self.holder().await.filter(|holder| holder != before).ok_or("nobody else")
        })
        .await
    }

    /// Begins to note every version of an Ingress, from the present one on.
    async fn history(&self, name: &'static str) -> History {
        let now = self.ingresses().get(name).await.expect("the Ingress");
        let version = now.metadata.resource_version.clone().expect("a version");
        let versions = Arc::new(Mutex::new(vec![now]));
        let (noted, ingresses) = (Arc::clone(&versions), self.ingresses());
        let task = tokio::spawn(async move {
            let params = WatchParams::default().fields(&format!("metadata.name={name}"));
            let mut events = Box::pin(ingresses.watch(&params, &version).await.expect("a watch"));
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Modified(ingress)) => noted.lock().unwrap().push(ingress),
                    other => panic!("{other:?}"),
                }
            }
        });
        History { ingresses: self.ingresses(), name, versions, task }
    }
}

/// Every version of an Ingress.
struct History {
    ingresses: Api<Ingress>,
    name: &'static str,
    versions: Arc<Mutex<Vec<Ingress>>>,
    task: JoinHandle<()>,
}

impl History {
    /// Each set of addresses that came after another, up to the one that it bears now.
    async fn changes(&self) -> Vec<Vec<String>> {
        let now = self.ingresses.get(self.name).await.expect("the Ingress").metadata.resource_version;
        eventually("the watch has caught up", async || {
            assert!(!self.task.is_finished(), "the watch has ended");
            let versions = self.versions.lock().unwrap();
            if versions.iter().any(|version| version.metadata.resource_version == now) { Ok(()) } else { Err("not yet") }
        })
        .await;
        let mut sets: Vec<_> = self.versions.lock().unwrap().iter().map(addresses).collect();
        sets.dedup();
        sets
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until a Nodegate says that it leads.
async fn leads(nodegate: &Nodegate) {
    eventually("it leads", async || match nodegate.metric("nodegate_leader").await? {
        1 => Ok(()),
        other => Err(format!("nodegate_leader {other}")),
    })
    .await;
}
