//! What an [`super::Incremental`] is told, and what it tells.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};

use super::super::Diagnostic;
use crate::route::Snapshot;

/// What has become of an object since the last time.
#[derive(Debug, Clone)]
pub enum Edit<T> {
    /// It is there, or there in another version.
    Put(Arc<T>),
    /// It is gone.
    Remove {
        /// `metadata.namespace`; empty for a class.
        namespace: Arc<str>,
        /// `metadata.name`.
        name: Arc<str>,
    },
}

/// What has become of all objects that aren't what they were. Each is in it once.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// networking.k8s.io/v1 Ingress.
    pub ingresses: Vec<Edit<Ingress>>,
    /// networking.k8s.io/v1 IngressClass.
    pub classes: Vec<Edit<IngressClass>>,
    /// v1 Service.
    pub services: Vec<Edit<Service>>,
    /// discovery.k8s.io/v1 EndpointSlice.
    pub slices: Vec<Edit<EndpointSlice>>,
    /// v1 Secret.
    pub secrets: Vec<Edit<Secret>>,
    /// Ingresses as they were in force before this process was there, for those whose newest version is worse.
    pub earlier: Vec<Arc<Ingress>>,
}

/// What comes of a [`Delta`].
#[derive(Debug)]
pub struct Update {
    /// The table, if it is another one than before.
    pub snapshot: Option<Snapshot>,
    /// Everything wrong now, as in [`crate::compile::Compiled`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many Ingresses had to be looked at.
    pub compiled: usize,
}

/// An Ingress, and which version of it is in force.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Its newest version.
    pub newest: &'a Arc<Ingress>,
    /// That one, or the one before it, where the newest has errors.
    pub in_force: &'a Arc<Ingress>,
    /// It is ours by its class.
    pub accepted: bool,
}
