//! An edit that breaks an Ingress: the version before it stays in force, for as long as a process or its disk remembers, and people are told.

use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use crate::{
    events::{are, leader},
    rig::{App, Cluster, Directory, Load, Nodegate, objects},
    state::{holds, keeping, logs},
};

/// A port that the Service hasn't, for a host that it shall serve instead.
fn bad_port(host: &str) -> Value {
    let mut rules = objects::rules(host, "app");
    rules[0]["http"]["paths"][0]["backend"]["service"]["port"] = json!({ "number": 81, "name": null });
    json!({ "spec": { "rules": rules } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_breaks_an_ingress_changes_nothing_for_clients_and_is_told_until_it_is_mended() {
    const NAMESPACE: &str = "last-good";
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    objects::create(&client, NAMESPACE, &objects::ingress("web", "last-good.example", "app")).await;
    let nodegate = leader(cluster, NAMESPACE).await;
    nodegate.serves("last-good.example", "app").await;
    let load = Load::begin(nodegate.http, "last-good.example", "app");

    objects::change::<Ingress>(&client, NAMESPACE, "web", bad_port("elsewhere.example")).await;
    let stays = "Warning PreviousInForce Ingress/web its newest version has errors, and isn't in force: since 20";
    let why = "Warning UnknownPort Ingress/web spec.rules[0].http.paths[0].backend.service.port: in the version that isn't in force: Service last-good/app has no";
    are(&client, NAMESPACE, &[stays, why]).await;
    nodegate.refuses("elsewhere.example", 404, "no_route").await;
    let described = cluster.kubectl(&["describe", "ingress", "web", "--namespace", NAMESPACE]);
    assert!(described.contains("UTC an earlier one without them stays in its place; correct it"), "{described}");
    // Others go on.
    objects::create(&client, NAMESPACE, &objects::ingress("other", "other.last-good.example", "app")).await;
    nodegate.serves("other.last-good.example", "app").await;

    // Another mistake in its place.
    let mistake = json!({ "metadata": { "annotations": { "nodegate.dev/dial": "everywhere" } }, "spec": { "rules": objects::rules("elsewhere.example", "app") } });
    objects::change::<Ingress>(&client, NAMESPACE, "web", mistake).await;
    are(
        &client,
        NAMESPACE,
        &["Normal Fixed Ingress/web", "Warning BadAnnotation Ingress/web metadata.annotations[nodegate.dev/dial]: in the version", stays],
    )
    .await;
    load.end().await;

    objects::change::<Ingress>(&client, NAMESPACE, "web", json!({ "metadata": { "annotations": null } })).await;
    nodegate.serves("elsewhere.example", "app").await;
    nodegate.refuses("last-good.example", 404, "no_route").await;
    are(&client, NAMESPACE, &["Normal Fixed Ingress/web"; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_a_broken_one_outlives_a_process_on_disk() {
    const NAMESPACE: &str = "remembered";
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    objects::create(&client, NAMESPACE, &objects::ingress("web", "remembered.example", "app")).await;
    let kubeconfig = cluster.nodegate_kubeconfig(cluster.api_address());
    let directory = Directory::create("state");
    let mut first = keeping(&kubeconfig, directory.path(), &[]).await;
    first.ready().await;
    first.serves("remembered.example", "app").await;
    holds(directory.path(), "\"remembered.example\"").await;
    objects::change::<Ingress>(&client, NAMESPACE, "web", bad_port("broken.example")).await;
    logs(&first, "the edit has been seen", |line| line["code"] == "previous_in_force").await;
    // It is written again after another edit: in the version that is in force.
    objects::create(&client, NAMESPACE, &objects::ingress("other", "other.remembered.example", "app")).await;
    holds(directory.path(), "\"other.remembered.example\"").await;
    drop(first);

    let mut second = keeping(&kubeconfig, directory.path(), &[]).await;
    second.ready().await;
    second.serves("other.remembered.example", "app").await;
    second.serves("remembered.example", "app").await;
    second.refuses("broken.example", 404, "no_route").await;
    drop(second);

    // Without it nobody knows what there was before.
    let forgetful = Nodegate::start(&kubeconfig).await;
    forgetful.refuses("broken.example", 503, "bad_backend").await;
    forgetful.refuses("remembered.example", 404, "no_route").await;
}
