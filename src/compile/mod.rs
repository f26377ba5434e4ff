//! `Objects -> Compiled`: Kubernetes objects into a route table, purely. No I/O, clock, environment or logging.

mod admit;
mod annotations;
mod backend;
mod class;
mod diagnostic;
mod endpoints;
mod external;
mod index;
mod ingress;
mod options;
mod parse;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};

pub use admit::admit;
pub use diagnostic::{Diagnostic, Severity, Subject};
pub(crate) use index::key;
pub use options::{HostOwnership, OWN_CONTROLLER, Options};

use crate::route::{IngressId, Snapshot};

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

/// The output.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The table.
    pub snapshot: Snapshot,
    /// What was found wrong, sorted by object; equal findings once.
    pub diagnostics: Vec<Diagnostic>,
    /// The Ingresses that are ours by their class, whatever is wrong with them otherwise; the oldest first.
    pub accepted: Vec<Arc<IngressId>>,
}

/// Compiles the objects of one moment. Can't fail: what is wrong with an object costs that object (or that rule, or that path) alone, and
/// yields a diagnostic. The output doesn't depend on the order of the input.
pub fn compile(objects: &Objects, options: &Options) -> Compiled {
    let index = index::Index::new(objects);
    let classes = class::Classes::new(&index, options);
    let (mut diagnostics, mut accepted) = (Vec::new(), Vec::new());
    let mut table = ingress::Compiler::new(&index, options);
    for indexed in &index.ingresses {
        if let Some(origin) = classes.claim(indexed, &mut diagnostics) {
            table.ingress(indexed, origin, &mut diagnostics);
            accepted.push(Arc::clone(&indexed.id));
        }
    }
    let snapshot = table.finish(&mut diagnostics);
    diagnostics.sort();
    diagnostics.dedup();
    Compiled { snapshot, diagnostics, accepted }
}
