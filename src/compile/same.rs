//! Whether two versions of an object make any difference.

use k8s_openapi::{
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// A kind of object that a table is made of.
pub(crate) trait Same {
    /// Whether they differ in nothing but the status, who wrote them, and the version's number.
    fn same(&self, other: &Self) -> bool;
}

impl Same for Ingress {
    fn same(&self, other: &Self) -> bool {
        let Self { metadata, spec, status: _ } = self;
        *spec == other.spec && same_but_for_the_version(metadata, &other.metadata)
    }
}

impl Same for IngressClass {
    fn same(&self, other: &Self) -> bool {
        let Self { metadata, spec } = self;
        *spec == other.spec && same_but_for_the_version(metadata, &other.metadata)
    }
}

impl Same for Service {
    fn same(&self, other: &Self) -> bool {
        let Self { metadata, spec, status: _ } = self;
        *spec == other.spec && same_but_for_the_version(metadata, &other.metadata)
    }
}

impl Same for EndpointSlice {
    fn same(&self, other: &Self) -> bool {
        let Self { metadata, address_type, endpoints, ports } = self;
        *address_type == other.address_type
            && *endpoints == other.endpoints
            && *ports == other.ports
            && same_but_for_the_version(metadata, &other.metadata)
    }
}

impl Same for Secret {
    fn same(&self, other: &Self) -> bool {
        let Self { metadata, type_, data, immutable: _, string_data: _ } = self;
        *type_ == other.type_ && *data == other.data && same_but_for_the_version(metadata, &other.metadata)
    }
}

/// Whether two objects' metadata differ in nothing but the version's number and who wrote it.
fn same_but_for_the_version(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let ObjectMeta {
        annotations,
        creation_timestamp,
        deletion_grace_period_seconds,
        deletion_timestamp,
        finalizers,
        generate_name,
        generation,
        labels,
        managed_fields: _,
        name,
        namespace,
        owner_references,
        resource_version: _,
        self_link,
        uid,
    } = one;
    *annotations == other.annotations
        && *creation_timestamp == other.creation_timestamp
        && *deletion_grace_period_seconds == other.deletion_grace_period_seconds
        && *deletion_timestamp == other.deletion_timestamp
        && *finalizers == other.finalizers
        && *generate_name == other.generate_name
        && *generation == other.generation
        && *labels == other.labels
        && *name == other.name
        && *namespace == other.namespace
        && *owner_references == other.owner_references
        && *self_link == other.self_link
        && *uid == other.uid
}
