//! Waiting for what nobody announces: asked again and again, with a deadline and the last answer in the message.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// How long anything that should come soon may take. Generous: it only costs time where a test fails.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks until the answer is `Ok`, and returns it; an error with the last `Err` in it once the time is over.
pub async fn eventually<T, E: Display>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<T, E>) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Ok(value) => return Ok(value),
            Err(last) => anyhow::ensure!(Instant::now() < deadline, "{what}: not within {within:?}; last: {last:#}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`eventually`], for threads; panics once the time is over.
#[track_caller]
pub fn until<T, E: Display>(what: &str, within: Duration, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match ask() {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < deadline, "{what}: not within {within:?}; last: {last:#}"),
        }
        thread::park_timeout(PAUSE / 5);
    }
}
