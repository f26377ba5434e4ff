//! The input, looked up and put in order: each object once, Ingresses the oldest first, so that nothing depends on the order of the input.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::{
    Metadata,
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;

use super::Objects;
use crate::route::IngressId;

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The input's objects by what they are asked for.
pub(super) struct Index<'a> {
    /// The oldest first: whoever comes first keeps its place.
    pub(super) ingresses: Vec<IndexedIngress<'a>>,
    pub(super) classes: BTreeMap<&'a str, &'a IngressClass>,
    /// By namespace and name.
    pub(super) services: HashMap<(&'a str, &'a str), &'a Service, RandomState>,
    /// By namespace and name of the Service.
    pub(super) slices: HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>, RandomState>,
    /// By namespace and name.
    pub(super) secrets: HashMap<(&'a str, &'a str), &'a Secret, RandomState>,
}

/// An Ingress with its identity.
pub(super) struct IndexedIngress<'a> {
    pub(super) id: Arc<IngressId>,
    pub(super) object: &'a Ingress,
}

impl<'a> Index<'a> {
    pub(super) fn new(objects: &'a Objects) -> Self {
        let Objects { ingresses, classes, services, slices, secrets } = objects;
        let mut index = Self {
            ingresses: by_age(unique(ingresses)),
            classes: unique(classes).into_iter().map(|class| (name(class.metadata()), class)).collect(),
            services: unique(services).into_iter().map(|service| (key(service.metadata()), service)).collect(),
            slices: HashMap::default(),
            secrets: unique(secrets).into_iter().map(|secret| (key(secret.metadata()), secret)).collect(),
        };
        for slice in unique(slices) {
            if let Some(service) = service_of(slice) {
                index.slices.entry(service).or_default().push(slice);
            }
        }
        index
    }
}

/// Namespace and name of an EndpointSlice's Service.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let meta = slice.metadata();
    let service = meta.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some((namespace(meta), service))
}

/// `metadata.namespace`, which files may leave out.
pub(super) fn namespace(meta: &ObjectMeta) -> &str {
    or_default(meta.namespace.as_deref().unwrap_or_default())
}

/// Where an object is kept that is in no namespace, or names none.
pub(super) fn or_default(namespace: &str) -> &str {
    if namespace.is_empty() { "default" } else { namespace }
}

/// `metadata.name`; empty where there is none, which no API server would have taken.
pub(super) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// What an object is known by: its namespace and name.
pub(super) fn key(meta: &ObjectMeta) -> (&str, &str) {
    (namespace(meta), name(meta))
}

/// Each object once, by namespace and name: of several with one name (which only files can hold) the oldest, then whichever comes first by content.
fn unique<T: Metadata<Ty = ObjectMeta> + Serialize>(objects: &[Arc<T>]) -> Vec<&T> {
    let mut sorted: Vec<&T> = objects.iter().map(AsRef::as_ref).collect();
    let content = |object: &T| serde_json::to_string(object).unwrap_or_default();
    sorted.sort_by(|a, b| {
        let by_key = key(a.metadata()).cmp(&key(b.metadata()));
        by_key.then_with(|| age(a.metadata(), b.metadata())).then_with(|| content(a).cmp(&content(b)))
    });
    sorted.dedup_by(|a, b| key(a.metadata()) == key(b.metadata()));
    sorted
}

/// By creationTimestamp, objects without one last.
fn age(a: &ObjectMeta, b: &ObjectMeta) -> Ordering {
    let key = |meta: &ObjectMeta| (meta.creation_timestamp.is_none(), meta.creation_timestamp.as_ref().map(|time| time.0));
    key(a).cmp(&key(b))
}

/// The oldest first, then by namespace and name.
fn by_age(mut ingresses: Vec<&Ingress>) -> Vec<IndexedIngress<'_>> {
    ingresses.sort_by(|a, b| age(&a.metadata, &b.metadata).then_with(|| key(&a.metadata).cmp(&key(&b.metadata))));
    let mut namespaces: HashMap<&str, Arc<str>, RandomState> = HashMap::default();
    let indexed = ingresses.into_iter().map(|object| {
        let (namespace, name) = key(&object.metadata);
        let namespace = Arc::clone(namespaces.entry(namespace).or_insert_with(|| Arc::from(namespace)));
        IndexedIngress { id: Arc::new(IngressId { namespace, name: Arc::from(name) }), object }
    });
    indexed.collect()
}
