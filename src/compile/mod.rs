//! `Objects -> Compiled`: Kubernetes objects into a route table, purely. No I/O, clock, environment or logging.

mod diagnostic;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};

pub use diagnostic::{Diagnostic, Severity, Subject};

use crate::route::Snapshot;

/// The input: the objects of one moment, in any order.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// networking.k8s.io/v1 Ingress.
    pub ingresses: Vec<Arc<Ingress>>,
    /// networking.k8s.io/v1 IngressClass.
    pub classes: Vec<Arc<IngressClass>>,
    /// v1 Service.
    pub services: Vec<Arc<Service>>,
    /// discovery.k8s.io/v1 EndpointSlice.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// v1 Secret of type kubernetes.io/tls.
    pub secrets: Vec<Arc<Secret>>,
}

/// What `--flags` say about compiling.
#[derive(Debug, Clone, Default)]
pub struct Options {}

/// The output.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The table.
    pub snapshot: Snapshot,
    /// What was found wrong, sorted.
    pub diagnostics: Vec<Diagnostic>,
}
