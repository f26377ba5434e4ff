//! The manifests as they come out of kustomize and of Helm: the two are equal, Kubernetes' types know every field, and what must hold for every
//! installation does. Whether an API server takes them, and what the role is good for, is tested with a real one (`tests/kube`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(unreachable_pub, reason = "`pub` marks what a module is for, as in the crate itself")]

#[path = "../support/built.rs"]
mod built;
mod equality;
mod pod;
mod rendered;
mod rights;
mod settings;
mod standby;
