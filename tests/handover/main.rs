//! One process takes over from another on the same addresses: real processes, real sockets, requests all the while.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, missing_docs, reason = "shared by test crates; the names say it")]

mod failures;
mod load;
mod rig;
mod standby;
mod strangers;
mod upgrades;

#[allow(dead_code, unused_imports, reason = "other test crates use the rest")]
#[path = "../support/mod.rs"]
mod support;
