//! The Kubernetes objects that the proxy reads, their keys, and the slimming that keeps ten thousand of them small.

use std::{fmt, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};

use crate::compile::{self, Same};

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// networking.k8s.io/v1 Ingress.
    Ingress,
    /// networking.k8s.io/v1 IngressClass, the only one without a namespace.
    IngressClass,
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Secret.
    Secret,
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 5] = [Self::Ingress, Self::IngressClass, Self::Service, Self::EndpointSlice, Self::Secret];

    /// The word in the field `kind`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
        }
    }

    /// The one value of the field `apiVersion` that is understood.
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::Ingress | Self::IngressClass => "networking.k8s.io/v1",
            Self::Service | Self::Secret => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
        }
    }

    /// Whether its objects live in namespaces.
    pub(super) fn namespaced(self) -> bool {
        self != Self::IngressClass
    }
}

/// What identifies an object. Displayed as `Kind namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.namespace`; empty for kinds that have none.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl Key {
    /// The key of an object of this kind with this metadata.
    pub(super) fn of(kind: Kind, metadata: &ObjectMeta) -> Self {
        let namespace = if kind.namespaced() { metadata.namespace.as_deref().unwrap_or_default() } else { "" };
        Self { kind, namespace: namespace.into(), name: metadata.name.as_deref().unwrap_or_default().into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.name())?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// One object of any of the kinds. Cloning costs a reference count.
#[derive(Debug, Clone)]
pub(super) enum Object {
    /// See [`Kind::Ingress`].
    Ingress(Arc<Ingress>),
    /// See [`Kind::IngressClass`].
    IngressClass(Arc<IngressClass>),
    /// See [`Kind::Service`].
    Service(Arc<Service>),
    /// See [`Kind::EndpointSlice`].
    EndpointSlice(Arc<EndpointSlice>),
    /// See [`Kind::Secret`].
    Secret(Arc<Secret>),
}

impl Object {
    /// What identifies it.
    pub(super) fn key(&self) -> Key {
        let (kind, metadata) = self.metadata();
        Key::of(kind, metadata)
    }

    /// `metadata.uid`, which only objects from an API server have.
    pub(super) fn uid(&self) -> Option<&str> {
        self.metadata().1.uid.as_deref()
    }

    /// Of which kind it is.
    pub(super) fn kind(&self) -> Kind {
        self.metadata().0
    }

    /// Its `metadata.resourceVersion`, which only objects from an API server have.
    pub(super) fn resource_version(&self) -> Option<&str> {
        self.metadata().1.resource_version.as_deref()
    }

    /// Whether the table made with the other version is the table made with this one: true for two versions of an Ingress that differ in nothing but
    /// the status, who keeps it, and the version's number. Of other kinds what isn't read was dropped; a version that comes is taken for a change.
    pub(super) fn routes_like(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Ingress(this), Self::Ingress(other)) if this.same(other))
    }

    fn metadata(&self) -> (Kind, &ObjectMeta) {
        match self {
            Self::Ingress(object) => (Kind::Ingress, &object.metadata),
            Self::IngressClass(object) => (Kind::IngressClass, &object.metadata),
            Self::Service(object) => (Kind::Service, &object.metadata),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, &object.metadata),
            Self::Secret(object) => (Kind::Secret, &object.metadata),
        }
    }
}

/// A Kubernetes type that becomes an [`Object`]: implemented for the five kinds, so that the cluster source is written once.
pub(super) trait Stored {
    /// Which kind it is.
    const KIND: Kind;

    /// Drops what the proxy never reads (managed fields alone are often half of an object) and wraps the rest.
    fn into_object(self) -> Object;
}

impl Stored for Ingress {
    const KIND: Kind = Kind::Ingress;

    /// Of the managed fields, who keeps the addresses in the status stays, by name alone: whoever writes them has to know whose they are.
    fn into_object(mut self) -> Object {
        let keepers = status_keepers(&mut self.metadata);
        slim(&mut self.metadata);
        self.metadata.managed_fields = keepers;
        Object::Ingress(Arc::new(self))
    }
}

impl Stored for IngressClass {
    const KIND: Kind = Kind::IngressClass;

    fn into_object(mut self) -> Object {
        slim(&mut self.metadata);
        // It has none, whatever a file says.
        self.metadata.namespace = None;
        Object::IngressClass(Arc::new(self))
    }
}

impl Stored for Service {
    const KIND: Kind = Kind::Service;

    fn into_object(mut self) -> Object {
        slim(&mut self.metadata);
        self.status = None;
        Object::Service(Arc::new(self))
    }
}

impl Stored for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn into_object(mut self) -> Object {
        slim(&mut self.metadata);
        // The endpoint controller stamps each change into an annotation, which says nothing to us.
        self.metadata.annotations = None;
        for endpoint in self.endpoints.iter_mut().flatten() {
            endpoint.target_ref = None;
            endpoint.deprecated_topology = None;
        }
        Object::EndpointSlice(Arc::new(self))
    }
}

impl Stored for Secret {
    const KIND: Kind = Kind::Secret;

    /// Folds `stringData` into `data`, as the API server does on writing, for Secrets that come from a file.
    fn into_object(mut self) -> Object {
        slim(&mut self.metadata);
        if let Some(text) = self.string_data.take() {
            let bytes = text.into_iter().map(|(key, value)| (key, k8s_openapi::ByteString(value.into_bytes())));
            self.data.get_or_insert_default().extend(bytes);
        }
        // Whatever else somebody has put there is none of our business, nor our memory's.
        if let Some(data) = &mut self.data {
            data.retain(|key, _| compile::SECRET_KEYS.contains(&key.as_str()));
        }
        Object::Secret(Arc::new(self))
    }
}

/// The managed fields that are the status's addresses, without everything but the manager's name; nothing where there are none.
fn status_keepers(metadata: &mut ObjectMeta) -> Option<Vec<ManagedFieldsEntry>> {
    const ADDRESSES: &str = "/f:status/f:loadBalancer/f:ingress";
    let mut entries = metadata.managed_fields.take().unwrap_or_default();
    entries.retain(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer(ADDRESSES).is_some()));
    entries.shrink_to_fit();
    for entry in &mut entries {
        *entry = ManagedFieldsEntry { manager: entry.manager.take(), ..ManagedFieldsEntry::default() };
    }
    (!entries.is_empty()).then_some(entries)
}

fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_of_a_secret_wins_over_data_and_fat_is_dropped() {
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "namespace": "n", "managedFields": [{"manager": "kubectl"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "keep": "me"}},
            "data": {"tls.crt": "b2xk"}, "stringData": {"tls.crt": "new"},
        }))
        .unwrap();
        let Object::Secret(secret) = secret.into_object() else { panic!("not a Secret") };
        assert_eq!(secret.data.as_ref().unwrap()["tls.crt"].0, b"new");
        assert!(secret.metadata.managed_fields.is_none());
        assert_eq!(secret.metadata.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["keep"]);
    }

    #[test]
    fn of_an_ingress_s_managed_fields_only_the_names_of_those_who_keep_its_addresses_are_kept() {
        let entry = |manager: &str, fields: serde_json::Value| {
            serde_json::json!({"manager": manager, "operation": "Apply", "apiVersion": "networking.k8s.io/v1", "fieldsType": "FieldsV1",
                "time": "2026-01-01T00:00:00Z", "fieldsV1": fields})
        };
        let addresses = serde_json::json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}});
        let ingress = |entries: &[serde_json::Value]| {
            let ingress: Ingress =
                serde_json::from_value(serde_json::json!({"metadata": {"name": "i", "managedFields": entries}})).unwrap();
            let Object::Ingress(ingress) = ingress.into_object() else { panic!("not an Ingress") };
            serde_json::to_value(&ingress.metadata).unwrap()
        };
        let spec = entry("kubectl", serde_json::json!({"f:spec": {"f:rules": {}}}));
        let kept = ingress(&[spec.clone(), entry("traefik", addresses)]);
        assert_eq!(kept["managedFields"], serde_json::json!([{"manager": "traefik"}]));
        assert!(ingress(&[spec]).get("managedFields").is_none());
    }

    #[test]
    fn a_class_has_no_namespace_even_if_one_is_written() {
        let metadata = ObjectMeta { name: Some("c".into()), namespace: Some("n".into()), ..ObjectMeta::default() };
        assert_eq!(Key::of(Kind::IngressClass, &metadata).to_string(), "IngressClass c");
        assert_eq!(Key::of(Kind::Service, &metadata).to_string(), "Service n/c");
        let Object::IngressClass(class) = (IngressClass { metadata, spec: None }).into_object() else { panic!("no class") };
        assert_eq!(class.metadata.namespace, None, "whoever looks for it by this one finds nothing");
    }
}
