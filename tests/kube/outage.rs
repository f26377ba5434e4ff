//! The API server goes away under load, and comes back without the history that a watch could continue from.

use std::time::{Duration, Instant};

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{Api, api::ListParams};

use crate::rig::{App, Cluster, Forwarder, Load, Nodegate, objects, tell};

const NAMESPACE: &str = "outage";

/// How long the outage lasts: short as a rule, a full minute where `NODEGATE_LONG` is set.
fn length() -> Duration {
    Duration::from_secs(if std::env::var_os("NODEGATE_LONG").is_some() { 60 } else { 10 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_with_lost_history_fails_no_request_and_hides_no_deletion() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let mut apps = Vec::new();
    for (name, host) in [("kept", "kept.example"), ("doomed", "doomed.example"), ("orphan", "orphan.example")] {
        apps.push(App::deploy(&client, NAMESPACE, name).await);
        objects::create(&client, NAMESPACE, &objects::ingress(name, host, name)).await;
    }
    let mut forwarder = Forwarder::open(cluster.api_address()).await;
    let mut nodegate = Nodegate::start(&cluster.nodegate_kubeconfig(forwarder.address())).await;
    nodegate.ready().await;
    let kept = Load::begin(nodegate.http, "kept.example", "kept");
    let doomed = Load::begin(nodegate.http, "doomed.example", "doomed");
    let orphan = Load::begin(nodegate.http, "orphan.example", "orphan");

    // The API server itself stops, so that the watches end as they do in a crash. With the forwarder cut, the test has it back alone.
    let began = Instant::now();
    cluster.stop_api();
    forwarder.cut().await;
    cluster.start_api().await;
    let client = cluster.client().await;
    let version = newest_version(&client).await;
    objects::delete::<Ingress>(&client, NAMESPACE, "doomed").await;
    objects::delete::<Service>(&client, NAMESPACE, "orphan").await;
    objects::create(&client, NAMESPACE, &objects::ingress("late", "late.example", "kept")).await;
    cluster.stop_api();
    cluster.compact().await;
    cluster.start_api().await;
    assert_history_is_lost(&cluster.client().await, &version).await;
    // Not to wait for anything: this is how long the outage is.
    tokio::time::sleep((began + length()).saturating_duration_since(Instant::now())).await;

    // Until Nodegate has the API server back, the last table stays whole.
    let during = doomed.end().await + orphan.end().await;
    assert_eq!(nodegate.readyz().await.map(|answer| answer.status), Ok(200), "ready throughout");
    let outage = began.elapsed();
    forwarder.restore().await;
    let back = Instant::now();
    nodegate.refuses("doomed.example", 404, "no_route").await;
    nodegate.refuses("orphan.example", 503, "bad_backend").await;
    nodegate.serves("late.example", "kept").await;
    let seen = back.elapsed();
    let requests = during + kept.end().await;
    assert!(u64::from(requests) > 3 * 5 * outage.as_secs(), "{requests} requests are no load over {outage:?}");
    tell(&format!("API server away for {outage:.1?}: {requests} requests, none failed; changes seen {seen:.1?} after it was back"));
}

/// The version of the list of Ingresses, which a watch could start from.
async fn newest_version(client: &kube::Client) -> String {
    let list = Api::<Ingress>::all(client.clone()).list(&ListParams::default()).await.expect("a list");
    list.metadata.resource_version.expect("a version")
}

/// The premise: a watch from before the outage gets 410.
async fn assert_history_is_lost(client: &kube::Client, version: &str) {
    let path = format!("/apis/networking.k8s.io/v1/ingresses?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let answer = client.request_text(http::Request::get(path).body(Vec::new()).expect("a request")).await.expect("a watch");
    assert!(answer.contains(r#""code":410"#), "the watch went on: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_set_back_to_a_backup_is_served_as_it_is_there() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let mut apps = Vec::new();
    for (name, host) in [("kept", "kept.example"), ("returns", "returns.example")] {
        apps.push(App::deploy(&client, NAMESPACE, name).await);
        objects::create(&client, NAMESPACE, &objects::ingress(name, host, name)).await;
    }
    cluster.back_up().await;
    let client = cluster.client().await;
    let mut nodegate = Nodegate::start(&cluster.nodegate_kubeconfig(cluster.api_address())).await;
    nodegate.ready().await;
    objects::delete::<Ingress>(&client, NAMESPACE, "returns").await;
    objects::create(&client, NAMESPACE, &objects::ingress("undone", "undone.example", "kept")).await;
    nodegate.refuses("returns.example", 404, "no_route").await;
    nodegate.serves("undone.example", "kept").await;
    let before: u64 = newest_version(&client).await.parse().expect("a number");
    let kept = Load::begin(nodegate.http, "kept.example", "kept");

    cluster.restore().await;
    let now: u64 = newest_version(&cluster.client().await).await.parse().expect("a number");
    assert!(now < before, "the premise: versions begin anew at {now}, where they had come to {before}");
    nodegate.serves("returns.example", "returns").await;
    nodegate.refuses("undone.example", 404, "no_route").await;
    kept.end().await;
}
