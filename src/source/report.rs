//! What the control thread tells the rest of the process about itself, through a `tokio::sync::watch`.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use k8s_openapi::api::networking::v1::Ingress;

use super::Coverage;
use crate::compile::Diagnostic;

/// The state of the configuration after the last rebuild.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The first table is published: what `/readyz` asks.
    pub ready: bool,
    /// Generation of the table in force ([`crate::table::Published`]).
    pub generation: u64,
    /// When it was published.
    pub published_at: Option<SystemTime>,
    /// Everything wrong with the current objects, sorted.
    pub diagnostics: Arc<[Diagnostic]>,
    /// The objects that diagnostics are about, now or since the start, as far as they still exist: a diagnostic that is gone was fixed only if its
    /// object is still here. Objects from files have no uid, and are missing.
    pub identities: Arc<BTreeMap<ObjectName, Identity>>,
    /// The Ingresses that the table in force was made of, in versions that make the same table; and those of other controllers whose status somebody keeps.
    pub ingresses: Arc<[Served]>,
    /// Which versions of Ingresses are behind the table in force: each as it is in [`Report::ingresses`], or is in [`Report::held`]. Empty where the table isn't
    /// the source's own, or the source has no versions.
    pub coverage: Coverage,
    /// The Ingresses whose newest version isn't in force, sorted.
    pub held: Arc<[ObjectName]>,
    /// The copy on disk.
    pub state: State,
    /// Rebuilds since the start, whether or not they changed the table.
    pub rebuilds: u64,
    /// What the last compilation took, in seconds.
    pub compile_seconds: f64,
    /// Seconds from the first event of a burst to the published table, for each publication since the start: cumulative counts at the
    /// upper bounds of [`CONFIG_TO_LIVE_BUCKETS`], the last without a bound.
    pub config_to_live: [u64; CONFIG_TO_LIVE_BUCKETS.len() + 1],
    /// Sum of those seconds.
    pub config_to_live_sum: f64,
}

impl Report {
    /// Whether the table in force is what the source says, and not what was once written to disk.
    pub fn is_live(&self) -> bool {
        self.ready && self.state.restored.is_none()
    }
}

/// What has become of the copy of the objects on this node's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// The table in force was made of it, and then it was this old: from when it is. `None`: the API server has answered.
    pub restored: Option<SystemTime>,
    /// When it was last written.
    pub saved: Option<SystemTime>,
    /// Writes that have failed.
    pub errors: u64,
}

/// An object by name, as [`crate::compile::Subject::Object`] has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Such as `Ingress`.
    pub kind: &'static str,
    /// `metadata.namespace`; empty for kinds that have none.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

/// What tells an object from others of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Such as `networking.k8s.io/v1`.
    pub api_version: &'static str,
    /// `metadata.uid`.
    pub uid: Arc<str>,
}

/// An Ingress of the table in force, or one that isn't ours but bears a status.
#[derive(Debug, Clone)]
pub struct Served {
    /// The version that was compiled, or a later one that differs from it in its status alone. The status, and of `managedFields` the names of those
    /// who keep its addresses, are in it.
    pub object: Arc<Ingress>,
    /// The version that is in force in its place, since this one has errors which that one hasn't.
    pub previous: Option<Arc<Ingress>>,
    /// It is ours by its class.
    pub accepted: bool,
}

impl Served {
    /// The version that is in force.
    pub fn in_force(&self) -> &Arc<Ingress> {
        self.previous.as_ref().unwrap_or(&self.object)
    }
}

/// Upper bounds in seconds of the config-to-live histogram.
pub const CONFIG_TO_LIVE_BUCKETS: [f64; 8] = [0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 5.0];
