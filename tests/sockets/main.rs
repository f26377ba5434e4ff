//! The data plane on real sockets: raw bytes in, raw bytes out, one module for each part of what a request meets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, missing_docs, reason = "shared by test crates; the names say it")]

mod addresses;
mod answers;
mod bodies;
mod clock;
mod dials;
mod drain;
mod endpoints;
mod exhaustion;
mod grpc;
mod headers;
mod http2;
mod http2_floods;
mod http2_memory;
mod http2_time;
mod http2_tunnels;
mod https_only;
mod idle;
mod limits;
mod listening;
mod pool;
mod process;
mod protocols;
mod proxy_protocol;
mod retries;
mod sanity;
mod targets;
mod tls;
mod tls_clients;
mod tls_pressure;
mod upgrade;
mod upstream;

#[path = "../support/mod.rs"]
mod support;
