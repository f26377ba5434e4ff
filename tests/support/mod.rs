//! A real proxy, real backends and raw clients on loopback sockets, for tests that say byte by byte what goes over the wire.
//! Everything blocks with a deadline: a test that waits for something that never comes fails, and says what it waited for.

mod backend;
mod process;
mod proxy;
mod wire;

use std::time::Duration;

pub use backend::Backend;
pub use process::Nodegate;
pub use proxy::{Proxy, manifest};
pub use wire::{Head, Message, Wire};

/// How long a test waits for anything that should come at once. Generous: it only costs time where a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
