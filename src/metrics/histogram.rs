//! Durations, counted in buckets.

use std::time::Duration;

/// Upper bounds of the duration histograms, in microseconds: half a millisecond, since a proxied request on one node takes less than one, to a
/// minute, which is the first-byte timeout.
pub(super) const BUCKETS_US: [u64; 15] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 60_000_000];

/// Durations, counted by the smallest of [`BUCKETS_US`] that holds them; the last count is of those beyond.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    pub(super) counts: [u64; BUCKETS_US.len() + 1],
    pub(super) sum_us: u64,
}

impl Histogram {
    pub(super) fn observe(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS_US.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}
