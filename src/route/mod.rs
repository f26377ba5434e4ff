//! The compiled route table: an immutable [`Snapshot`] and its one question, [`Snapshot::find`]. Pure: no I/O, clock, or logging.

mod backend;

pub use backend::{Backend, BackendId, Endpoints, Target};

use std::{fmt, sync::Arc};

/// The Ingress a route came from, displayed as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IngressId {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl fmt::Display for IngressId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One rule's path (or default backend), compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The Ingress it came from.
    pub ingress: Arc<IngressId>,
    /// Where it leads.
    pub backend: Arc<Backend>,
}

/// Everything a request asks, as one immutable value.
#[derive(Debug, Default)]
pub struct Snapshot {}

impl Snapshot {
    /// The route for a request. `host` is canonical (lower case, without port and trailing dot, punycode; empty when an HTTP/1.0 request had
    /// none), `path` is normalised ([`crate::message`]). The cost does not grow with the number of hosts.
    pub fn find(&self, _host: &str, _path: &str) -> Option<&Arc<Route>> {
        None
    }
}
