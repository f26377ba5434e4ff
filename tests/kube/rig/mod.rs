//! The rig: processes, a cluster, objects, backends, and an HTTP client. It knows how to start things and to wait, not what is right.

mod backend;
#[path = "../../support/built.rs"]
mod built;
#[path = "../../support/clock.rs"]
mod clock;
mod cluster;
mod directory;
mod forwarder;
mod http;
mod load;
mod nodegate;
pub mod objects;
mod peers;
mod process;

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

pub use backend::{App, Backend};
pub use built::built;
pub use clock::Clock;
pub use cluster::{Cluster, WATCHED};
pub use directory::Directory;
pub use forwarder::Forwarder;
pub use http::{Answer, Client, get};
pub use load::Load;
pub use nodegate::Nodegate;
pub use peers::Site;
pub use process::Process;

/// How long anything that must happen may take before the test fails. Generous, since machines that test are slow and shared; a passing
/// test never waits for it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Tells a figure. Past the test runner, which keeps what passing tests print to itself.
pub fn tell(figure: &str) {
    _ = writeln!(std::io::stderr(), "figure: {figure}");
}

/// Asks again and again until the answer is `Ok`; fails the test with the last `Err` once [`PATIENCE`] is over.
pub async fn eventually<T, E: std::fmt::Display>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; last: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
