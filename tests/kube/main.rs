//! Nodegate against a real kube-apiserver and etcd, built by `build.sh` from the Go modules that `go.mod` names.
//!
//! Services get ClusterIPs out of 127.43.0.0/16, which is loopback: a test backend listens right on its Service's address, and no kube-proxy
//! is needed. `rig` starts everything and holds no assertion about Nodegate; the other modules are the cases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(unreachable_pub, reason = "`pub` marks what a module of the rig is for, as in the crate itself")]
#![allow(clippy::doc_markdown, reason = "Kubernetes kinds are words here")]

mod rig;

#[path = "../support/issued.rs"]
mod issued;

mod commands;
mod convergence;
mod events;
mod last_good;
mod latency;
mod live;
mod manifests;
mod outage;
mod standby;
mod startup;
mod state;
mod status;
mod tls;
