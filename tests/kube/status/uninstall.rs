//! The end of all Nodegates: no Ingress is left with an address that nobody answers at.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::*;

/// Enough that they aren't all under way at once.
const INGRESSES: usize = 300;

/// The Ingresses that bear an address.
async fn bearing(site: &Site) -> Vec<String> {
    let all = site.ingresses().list(&ListParams::default()).await.expect("the Ingresses").items;
    all.iter().filter(|ingress| !addresses(ingress).is_empty()).filter_map(|ingress| ingress.metadata.name.clone()).collect()
}

/// Waits until the API server knows that Nodegate may not write a status.
async fn may_not_write(site: &Site) {
    let attributes = json!({ "group": "networking.k8s.io", "resource": "ingresses", "subresource": "status", "verb": "patch", "namespace": site.namespace });
    let review: SubjectAccessReview = objects::object(json!({ "spec": { "user": "nodegate", "resourceAttributes": attributes } }));
    let reviews = Api::<SubjectAccessReview>::all(site.client.clone());
    eventually("the right is gone", async || {
        let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        if answer.status.is_some_and(|status| status.allowed) { Err("it may".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_leader_that_has_too_little_time_before_its_drain_goes_on_through_it() {
    // Of its own, as a right is taken away.
    let cluster = Cluster::start().await;
    let (site, kubeconfig, _app) = begin_on(&cluster, "status-uninstall").await;
    for number in 0..INGRESSES {
        let (name, host) = (format!("one-{number}"), format!("one-{number}.example"));
        objects::create(&site.client, site.namespace, &objects::ingress(&name, &host, "app")).await;
    }
    let site = site.with(&["--drain-timeout", "50s"]);
    let mut nodegate = site.member(&kubeconfig, "a", "192.0.2.1").await;
    eventually("every Ingress bears the address", async || match bearing(&site).await.len() {
        all if all == INGRESSES + 1 => Ok(()),
        some => Err(format!("{some} do")),
    })
    .await;

    // However fast the machine is, nothing is withdrawn before it drains.
    cluster.revoke(Some("ingresses/status")).await;
    may_not_write(&site).await;
    site.pod_terminates("a").await;
    nodegate.terminate();
    eventually("it drains", async || {
        let log = nodegate.log();
        let drains = log.iter().any(|line| line["message"] == "draining");
        if drains { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(bearing(&site).await.len(), INGRESSES + 1);
    cluster.revoke(None).await;
    nodegate.ended().await;
    assert_eq!(bearing(&site).await, Vec::<String>::new());
    assert_eq!(site.holder().await, None, "released");
}
