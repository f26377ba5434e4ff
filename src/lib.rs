//! Nodegate: a host-network HTTP ingress proxy for Kubernetes.
//!
//! Two flows, which meet in one place, the `ArcSwap<Snapshot>` of [`table`]:
//!
//! ```text
//! config   API server or YAML files -> stores -> compile (pure) -> Snapshot -> ArcSwap   (control thread)
//! request  accept -> TLS? -> HTTP -> identity -> route -> upstream -> stream back                (worker threads)
//! ```
//!
//! Modules in reading order: the pure core (`message`, `certificate`, `route`, `compile`), the seam (`table`), then the shell around it.

pub mod message;

pub mod certificate;
pub mod route;

pub mod compile;

pub mod table;

mod waiting;

pub mod config;
pub mod source;

pub mod leader;
pub mod status;

pub mod convergence;
pub mod event;

pub mod access_log;
pub mod metrics;
pub mod proxy;

pub mod admin;
pub mod handover;

pub mod app;
