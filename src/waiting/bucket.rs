//! A token bucket that is one point in time: when it would be full again.

use std::time::Duration;

use tokio::time::Instant;

/// What a bucket holds, and how fast it fills.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Tokens in a full bucket.
    pub burst: u32,
    /// Time for one more.
    pub interval: Duration,
}

/// A bucket, full at first.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// When there is a token: `now`, or later.
    pub(crate) fn free_at(&self, rate: Rate, now: Instant) -> Instant {
        let spare = rate.interval * rate.burst.saturating_sub(1);
        // Empty means that it takes longer than all but one token's time until it is full.
        self.full_at.and_then(|full| full.checked_sub(spare)).map_or(now, |free| free.max(now))
    }

    /// Takes a token, which must be there.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full| full.max(now)) + rate.interval);
    }

    /// Whether it is as good as a new one.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full| full <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_interval_and_a_rest_fills_it_again() {
        let rate = Rate { burst: 3, interval: Duration::from_secs(1) };
        let begin = Instant::now();
        let mut bucket = Bucket::default();
        let mut now = begin;
        let mut taken = Vec::new();
        for _ in 0..5 {
            now = bucket.free_at(rate, now);
            bucket.take(rate, now);
            taken.push(now.duration_since(begin).as_secs());
        }
        assert_eq!(taken, [0, 0, 0, 1, 2]);
        assert!(!bucket.is_full(now));
        now += Duration::from_secs(10);
        assert!(bucket.is_full(now));
        for expected in [0, 0, 0, 1] {
            let free = bucket.free_at(rate, now);
            assert_eq!(free.duration_since(now).as_secs(), expected);
            now = free;
            bucket.take(rate, now);
        }
    }
}
