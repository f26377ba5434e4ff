//! Ingresses that are other controllers' and other writers: what is theirs is left alone, what is ours goes with the class.

use k8s_openapi::api::networking::v1::IngressClass;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::*;

/// The status that another controller writes, by an update as most of them do.
const FOREIGN: &str = "203.0.113.9";

impl Site {
    async fn foreign_writes(&self, name: &str) -> Ingress {
        let patch = Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": [{ "ip": FOREIGN }] } } }));
        let params = PatchParams { field_manager: Some("other-controller".into()), ..PatchParams::default() };
        self.ingresses().patch_status(name, &params, &patch).await.expect("a foreign status")
    }

    async fn class_of(&self, name: &str, class: &str) {
        objects::change::<Ingress>(&self.client, self.namespace, name, json!({ "spec": { "ingressClassName": class } })).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_go_with_the_class_and_those_of_others_are_never_touched() {
    let (site, kubeconfig, _app) = begin("status-class").await;
    objects::create(&site.client, site.namespace, &objects::ingress_of_class("theirs", Some("foreign"), "theirs.example", "app")).await;
    let theirs = site.foreign_writes("theirs").await.metadata.resource_version;
    let nodegate = site.member(&kubeconfig, "a", "192.0.2.1").await;
    site.bears("web", &["192.0.2.1"]).await;

    // By the Ingress's own class, and back.
    site.class_of("web", "foreign").await;
    site.bears("web", &[]).await;
    site.class_of("web", "nodegate").await;
    site.bears("web", &["192.0.2.1"]).await;

    // Ours, another's entry in it: overwritten. Another's: what it writes stays, whatever happens to our pods.
    site.class_of("web", "foreign").await;
    site.bears("web", &[]).await;
    let foreign = site.foreign_writes("web").await.metadata.resource_version;
    site.node("b", &[("InternalIP", "192.0.2.2")]).await;
    site.pod("b", "b").await;
    site.pod_ready("b", true).await;
    objects::create(&site.client, site.namespace, &objects::ingress("marker", "marker.example", "app")).await;
    site.bears("marker", &["192.0.2.1", "192.0.2.2"]).await;
    for (name, before) in [("web", foreign), ("theirs", theirs)] {
        let now = site.ingresses().get(name).await.unwrap().metadata.resource_version;
        assert_eq!(now, before, "{name} was written");
    }
    site.class_of("web", "nodegate").await;
    site.bears("web", &["192.0.2.1", "192.0.2.2"]).await;
    assert_eq!(nodegate.metric("nodegate_status_errors_total").await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_go_with_the_class_object() {
    let (site, kubeconfig, _app) = begin("status-object").await;
    objects::create_cluster_wide(&site.client, &objects::class("status-object", "nodegate.dev/ingress-controller")).await;
    site.class_of("web", "status-object").await;
    let _nodegate = site.member(&kubeconfig, "a", "192.0.2.1").await;
    site.bears("web", &["192.0.2.1"]).await;
    objects::delete_cluster_wide::<IngressClass>(&site.client, "status-object").await;
    site.bears("web", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_writer_is_given_way_to_more_and_more_and_told_of_once() {
    let (site, kubeconfig, _app) = begin("status-war").await;
    let nodegate = site.member(&kubeconfig, "a", "192.0.2.1").await;
    for round in 1..=4 {
        site.bears("web", &["192.0.2.1"]).await;
        site.foreign_writes("web").await;
        eventually("the change is seen", async || match nodegate.metric("nodegate_status_contested_total").await? {
            seen if seen == round => Ok(()),
            seen => Err(format!("{seen} of {round}")),
        })
        .await;
    }
    let told = |line: &&serde_json::Value| line["message"].as_str().is_some_and(|text| text.starts_with("another writer keeps changing"));
    let log = nodegate.log();
    let told: Vec<_> = log.iter().filter(told).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0]["ingress"].as_str(), told[0]["by"].as_str()), (Some("status-war/web"), Some("other-controller")));
    assert_eq!(site.borne("web").await, [FOREIGN], "eight seconds are left to it now");
}
