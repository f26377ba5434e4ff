//! Other people's judges of protocols, run against the data plane: h2spec for HTTP/2, gRPC's interoperability tests from end to end, Autobahn for WebSocket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "shared by test crates; the names say it")]

mod autobahn;
mod grpc;
mod http2;

#[path = "../support/built.rs"]
mod built;
#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "these tests need little of it")]
mod support;
