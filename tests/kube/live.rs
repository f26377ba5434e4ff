//! Objects come, change and go while Nodegate runs; what it answers follows. One control plane for all cases, a namespace and hosts for each.

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use serde_json::json;

use crate::rig::{App, Backend, Cluster, Nodegate, objects};

/// A client, and a Nodegate that is ready, with a new namespace for the case.
async fn begin(namespace: &str) -> (kube::Client, Nodegate) {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, namespace).await;
    let mut nodegate = Nodegate::start(&cluster.nodegate_kubeconfig(cluster.api_address())).await;
    nodegate.ready().await;
    (client, nodegate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_is_followed_from_creation_through_change_to_deletion() {
    let (client, nodegate) = begin("ingresses").await;
    let _first = App::deploy(&client, "ingresses", "first").await;
    let _second = App::deploy(&client, "ingresses", "second").await;
    nodegate.refuses("ingress.example", 404, "no_route").await;

    objects::create(&client, "ingresses", &objects::ingress("web", "ingress.example", "first")).await;
    nodegate.serves("ingress.example", "first").await;

    let to_second = json!({ "spec": { "rules": objects::rules("ingress.example", "second") } });
    objects::change::<Ingress>(&client, "ingresses", "web", to_second).await;
    nodegate.serves("ingress.example", "second").await;

    let other_host = json!({ "spec": { "rules": objects::rules("moved.example", "second") } });
    objects::change::<Ingress>(&client, "ingresses", "web", other_host).await;
    nodegate.serves("moved.example", "second").await;
    nodegate.refuses("ingress.example", 404, "no_route").await;

    objects::delete::<Ingress>(&client, "ingresses", "web").await;
    nodegate.refuses("moved.example", 404, "no_route").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_followed_from_creation_through_change_to_deletion() {
    let (client, nodegate) = begin("services").await;
    let app = App::start("app").await;
    objects::create(&client, "services", &objects::ingress("web", "service.example", "app")).await;
    nodegate.refuses("service.example", 503, "bad_backend").await;

    objects::create(&client, "services", &objects::service("app", app.backend.address)).await;
    objects::create(&client, "services", &objects::slice("app", "app", true)).await;
    nodegate.serves("service.example", "app").await;

    let mut any_port = app.backend.address;
    any_port.set_port(0);
    let moved = Backend::start("moved", any_port).await;
    let to_moved = json!({ "spec": { "ports": objects::ports(moved.address) } });
    objects::change::<Service>(&client, "services", "app", to_moved).await;
    nodegate.serves("service.example", "moved").await;

    objects::delete::<Service>(&client, "services", "app").await;
    nodegate.refuses("service.example", 503, "bad_backend").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpointslice_is_followed_from_creation_through_change_to_deletion() {
    let (client, nodegate) = begin("slices").await;
    let app = App::start("app").await;
    objects::create(&client, "slices", &objects::service("app", app.backend.address)).await;
    objects::create(&client, "slices", &objects::ingress("web", "slice.example", "app")).await;
    nodegate.refuses("slice.example", 503, "no_endpoints").await;

    objects::create(&client, "slices", &objects::slice("app-1", "app", true)).await;
    nodegate.serves("slice.example", "app").await;

    objects::change::<EndpointSlice>(&client, "slices", "app-1", json!({ "endpoints": objects::endpoints(false) })).await;
    nodegate.refuses("slice.example", 503, "no_endpoints").await;

    objects::create(&client, "slices", &objects::slice("app-2", "app", true)).await;
    nodegate.serves("slice.example", "app").await;

    objects::delete::<EndpointSlice>(&client, "slices", "app-2").await;
    nodegate.refuses("slice.example", 503, "no_endpoints").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingressclass_is_followed_from_creation_through_change_to_deletion() {
    let (client, nodegate) = begin("classes").await;
    let _app = App::deploy(&client, "classes", "app").await;
    let of_class = |name, class, host| objects::ingress_of_class(name, class, host, "app");
    objects::create(&client, "classes", &of_class("named", Some("live-ours"), "named.example")).await;
    objects::create(&client, "classes", &of_class("foreign", Some("live-foreign"), "foreign.example")).await;
    objects::create(&client, "classes", &of_class("classless", None, "classless.example")).await;
    objects::create_cluster_wide(&client, &objects::class("live-foreign", "elsewhere.example/controller")).await;
    nodegate.refuses("named.example", 404, "no_route").await;

    objects::create_cluster_wide(&client, &objects::class("live-ours", "nodegate.dev/ingress-controller")).await;
    nodegate.serves("named.example", "app").await;
    nodegate.refuses("classless.example", 404, "no_route").await;

    let by_default = |value| json!({ "metadata": { "annotations": { "ingressclass.kubernetes.io/is-default-class": value } } });
    objects::change_cluster_wide::<IngressClass>(&client, "live-ours", by_default(Some("true"))).await;
    nodegate.serves("classless.example", "app").await;
    objects::change_cluster_wide::<IngressClass>(&client, "live-ours", by_default(None)).await;
    nodegate.refuses("classless.example", 404, "no_route").await;
    nodegate.serves("named.example", "app").await;

    objects::delete_cluster_wide::<IngressClass>(&client, "live-ours").await;
    nodegate.refuses("named.example", 404, "no_route").await;
    nodegate.refuses("foreign.example", 404, "no_route").await;
}
