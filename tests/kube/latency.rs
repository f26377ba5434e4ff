//! How long a write to the API server takes to be live. The figure is told, not asserted: it is the machine's as much as ours.

use std::time::{Duration, Instant};

use k8s_openapi::api::{discovery::v1::EndpointSlice, networking::v1::Ingress};
use serde_json::json;

use crate::rig::{App, Cluster, Nodegate, objects, tell};

const NAMESPACE: &str = "latency";

/// Rounds of five edits each.
const ROUNDS: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_one_of_125_edits_becomes_live() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _first = App::deploy(&client, NAMESPACE, "first").await;
    let _second = App::deploy(&client, NAMESPACE, "second").await;
    let mut nodegate = Nodegate::start(&cluster.nodegate_kubeconfig(cluster.api_address())).await;
    nodegate.ready().await;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let (name, host) = (format!("web-{round}"), format!("edit-{round}.example"));
        let ingress = objects::ingress(&name, &host, "first");
        times.push(time(objects::create(&client, NAMESPACE, &ingress), nodegate.serves(&host, "first")).await);
        let patch = json!({ "spec": { "rules": objects::rules(&host, "second") } });
        times.push(time(objects::change::<Ingress>(&client, NAMESPACE, &name, patch), nodegate.serves(&host, "second")).await);
        let ready =
            |ready| objects::change::<EndpointSlice>(&client, NAMESPACE, "second", json!({ "endpoints": objects::endpoints(ready) }));
        times.push(time(ready(false), nodegate.refuses(&host, 503, "no_endpoints")).await);
        times.push(time(ready(true), nodegate.serves(&host, "second")).await);
        times.push(time(objects::delete::<Ingress>(&client, NAMESPACE, &name), nodegate.refuses(&host, 404, "no_route")).await);
    }
    let (from_request, from_answer): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    tell(&format!("API write to live, from its request: {}; from its answer: {}", distribution(from_request), distribution(from_answer)));
}

/// Writes, and waits until that is live. Returns the time since the write's request, and since the API server's answer to it.
async fn time(write: impl Future<Output = ()>, live: impl Future<Output = ()>) -> (Duration, Duration) {
    let requested = Instant::now();
    write.await;
    let answered = Instant::now();
    live.await;
    (requested.elapsed(), answered.elapsed())
}

fn distribution(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {:.1?}, p99 {:.1?}, max {:.1?} of {}", at(50), at(99), at(100), times.len())
}
