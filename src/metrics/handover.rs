//! What became of handovers between two processes on this node.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts; they only grow.
#[derive(Debug, Default)]
pub struct Handovers {
    /// This process took over from a running one.
    pub taken: AtomicU64,
    /// Another process took over from this one.
    pub given: AtomicU64,
    /// And ended, so that this one accepts again.
    pub taken_back: AtomicU64,
    /// Another process began to take over, and didn't come to serve.
    pub failed: AtomicU64,
}

impl Handovers {
    /// One more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Each count by its name.
    pub fn values(&self) -> [(&'static str, u64); 4] {
        let Self { taken, given, taken_back, failed } = self;
        [("taken", taken), ("given", given), ("taken_back", taken_back), ("failed", failed)]
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}
