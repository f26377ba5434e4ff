//! Nodegate against a real kube-apiserver and etcd, built by `build.sh` from the Go modules that `go.mod` names.
//!
//! Services get ClusterIPs out of 127.43.0.0/16, which is loopback: a test backend listens right on its Service's address, and no kube-proxy
//! is needed. `rig` starts everything and holds no assertion about Nodegate; the other modules are the cases.

// Tests fail by panicking; the lints that keep panics off the request path don't apply here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::missing_panics_doc)]
// The names of Kubernetes kinds are words here.
#![allow(clippy::doc_markdown)]

mod rig;

mod latency;
mod live;
mod outage;
mod startup;
