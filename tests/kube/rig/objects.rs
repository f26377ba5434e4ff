//! Kubernetes objects as the tests need them, and the few calls on them.

use std::{fmt::Debug, net::SocketAddr};

use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope, Resource,
    api::{
        core::v1::{Namespace, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// What every namespaced object here is.
pub trait Namespaced:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Resource + Clone + Debug + Serialize + DeserializeOwned
{
}
impl<K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Resource + Clone + Debug + Serialize + DeserializeOwned>
    Namespaced for K
{
}

/// What every object without a namespace here is.
pub trait ClusterWide:
    kube::Resource<DynamicType = (), Scope = ClusterResourceScope> + Resource + Clone + Debug + Serialize + DeserializeOwned
{
}
impl<K: kube::Resource<DynamicType = (), Scope = ClusterResourceScope> + Resource + Clone + Debug + Serialize + DeserializeOwned>
    ClusterWide for K
{
}

/// Creates a namespaced object.
pub async fn create<K: Namespaced>(client: &Client, namespace: &str, object: &K) {
    let created = Api::<K>::namespaced(client.clone(), namespace).create(&PostParams::default(), object).await;
    created.unwrap_or_else(|error| panic!("create {} {:?}: {error}", K::KIND, object.meta().name));
}

/// Changes a namespaced object by a JSON merge patch.
pub async fn change<K: Namespaced>(client: &Client, namespace: &str, name: &str, patch: Value) {
    let changed = Api::<K>::namespaced(client.clone(), namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    changed.unwrap_or_else(|error| panic!("patch {} {name}: {error}", K::KIND));
}

/// Deletes a namespaced object.
pub async fn delete<K: Namespaced>(client: &Client, namespace: &str, name: &str) {
    let deleted = Api::<K>::namespaced(client.clone(), namespace).delete(name, &DeleteParams::default()).await;
    deleted.unwrap_or_else(|error| panic!("delete {} {name}: {error}", K::KIND));
}

/// Creates an object that has no namespace.
pub async fn create_cluster_wide<K: ClusterWide>(client: &Client, object: &K) {
    let created = Api::<K>::all(client.clone()).create(&PostParams::default(), object).await;
    created.unwrap_or_else(|error| panic!("create {} {:?}: {error}", K::KIND, object.meta().name));
}

/// Changes an object that has no namespace by a JSON merge patch.
pub async fn change_cluster_wide<K: ClusterWide>(client: &Client, name: &str, patch: Value) {
    let changed = Api::<K>::all(client.clone()).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    changed.unwrap_or_else(|error| panic!("patch {} {name}: {error}", K::KIND));
}

/// Deletes an object that has no namespace.
pub async fn delete_cluster_wide<K: ClusterWide>(client: &Client, name: &str) {
    let deleted = Api::<K>::all(client.clone()).delete(name, &DeleteParams::default()).await;
    deleted.unwrap_or_else(|error| panic!("delete {} {name}: {error}", K::KIND));
}

/// Makes a namespace of that name.
pub async fn create_namespace(client: &Client, name: &str) {
    create_cluster_wide::<Namespace>(client, &object(json!({ "metadata": { "name": name } }))).await;
}

/// An Ingress of class `nodegate`: everything below `/` of `host` goes to port `http` of `service`.
pub fn ingress(name: &str, host: &str, service: &str) -> Ingress {
    ingress_of_class(name, Some("nodegate"), host, service)
}

/// As [`ingress`], of another class or of none.
pub fn ingress_of_class(name: &str, class: Option<&str>, host: &str, service: &str) -> Ingress {
    object(json!({ "metadata": { "name": name }, "spec": { "ingressClassName": class, "rules": rules(host, service) } }))
}

/// The rules of [`ingress`], for a patch.
pub fn rules(host: &str, service: &str) -> Value {
    let backend = json!({ "service": { "name": service, "port": { "name": "http" } } });
    json!([{ "host": host, "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } }])
}

/// A Service whose ClusterIP and port `http` are `address`.
pub fn service(name: &str, address: SocketAddr) -> Service {
    object(json!({
        "metadata": { "name": name },
        "spec": { "clusterIP": address.ip(), "ports": ports(address) },
    }))
}

/// The ports of [`service`], for a patch.
pub fn ports(address: SocketAddr) -> Value {
    json!([{ "name": "http", "port": address.port(), "targetPort": 8080 }])
}

/// An EndpointSlice of `service` with one endpoint. Its address is a documentation address: the API server takes no loopback ones, and nothing
/// dials it.
pub fn slice(name: &str, service: &str, ready: bool) -> EndpointSlice {
    object(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "endpoints": endpoints(ready),
        "ports": [{ "name": "http", "port": 8080 }],
    }))
}

/// The endpoints of [`slice`], for a patch.
pub fn endpoints(ready: bool) -> Value {
    json!([{ "addresses": ["192.0.2.7"], "conditions": { "ready": ready, "serving": ready, "terminating": false } }])
}

/// An IngressClass.
pub fn class(name: &str, controller: &str) -> IngressClass {
    object(json!({ "metadata": { "name": name }, "spec": { "controller": controller } }))
}

/// Any object from its JSON, without `apiVersion` and `kind`.
pub fn object<K: DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("an object of this kind")
}
