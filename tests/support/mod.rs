//! A real proxy, real backends and raw clients on loopback sockets, for tests that say byte by byte what goes over the wire.
//! Everything blocks with a deadline: a test that waits for something that never comes fails, and says what it waited for.

mod accepts_any;
mod backend;
mod clock;
pub mod frames;
mod http2;
mod http2_backend;
mod issued;
mod process;
mod proxy;
mod services;
mod tls;
mod wire;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use backend::{Backend, Refusing};
pub use clock::Clock;
pub use http2::{Call, Http2};
pub use http2_backend::{BIG, Http2Backend, TOGETHER};
pub use issued::{Authority, Issued, issue};
pub use process::Nodegate;
pub use proxy::{Proxy, manifest};
pub use services::{Endpoint, Service, service};
pub use tls::{TlsClient, secret};
pub use wire::{Head, Message, Wire};

/// The request of tests that are about something else.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// How long a test waits for anything that should come at once. Generous: it only costs time where a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `met` gives something. For states that nobody announces.
#[track_caller]
pub fn eventually<T>(what: &str, met: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, met)
}

/// As [`eventually`], for what takes longer than that.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut met: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = met() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}
