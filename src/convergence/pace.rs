//! When a report may be written. No I/O, no clock: time is handed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    config::limits::{
        API_BACKOFF_MIN, REPORT_INTERVAL, REPORT_INTERVAL_BUSY, REPORT_REFRESH, REPORT_RETRY_MAX, REPORT_SETTLE, REPORTS_IN_A_ROW,
    },
    waiting::{Bucket, Rate},
};

/// Beyond [`REPORT_INTERVAL`], which is between any two.
const RATE: Rate = Rate { burst: REPORTS_IN_A_ROW, interval: REPORT_INTERVAL_BUSY };

/// One writer's pace.
#[derive(Debug)]
pub(super) struct Pace {
    settle: Duration,
    /// Nothing is written before; none before the first write.
    free_at: Option<Instant>,
    /// When there first was something new to say.
    news: Option<Instant>,
    /// Writes that may follow soon after another.
    bucket: Bucket,
    failures: u32,
}

impl Pace {
    /// `chance`: from 0 to 1, this writer's own.
    pub(super) fn new(chance: f64) -> Self {
        Self { settle: REPORT_SETTLE.mul_f64(1.0 + chance), free_at: None, news: None, bucket: Bucket::default(), failures: 0 }
    }

    /// When to write that there is something new.
    pub(super) fn due(&mut self, now: Instant) -> Instant {
        let settled = *self.news.get_or_insert(now) + self.settle;
        self.free_at.map_or(settled, |free| free.max(settled))
    }

    /// There is nothing new any more: it was taken back.
    pub(super) fn nothing(&mut self) {
        self.news = None;
    }

    /// It was written. Returns when to write it again, if nothing happens.
    pub(super) fn written(&mut self, now: Instant) -> Instant {
        self.news = None;
        self.failures = 0;
        self.bucket.take(RATE, now);
        self.free_at = Some(self.bucket.free_at(RATE, now + REPORT_INTERVAL));
        now + REPORT_REFRESH
    }

    /// It couldn't be written.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = API_BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(REPORT_RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.free_at = Some(now + pause.mul_f64(1.0 - fastrand::f64() / 2.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is written, in milliseconds, with something new every so often.
    fn written(every: Duration, count: u32) -> Vec<u128> {
        let begin = Instant::now();
        let mut pace = Pace::new(0.0);
        let (mut now, mut times) = (begin, Vec::new());
        for number in 0..count {
            // What is new while something waits is one report with it.
            now = now.max(begin + every * number);
            now = pace.due(now).max(now);
            pace.written(now);
            times.push(now.duration_since(begin).as_millis());
        }
        times
    }

    #[test]
    fn what_comes_now_and_then_is_written_at_once() {
        assert_eq!(written(Duration::from_secs(3), 4), [100, 3100, 6100, 9100]);
    }

    #[test]
    fn what_never_rests_is_written_every_second_and_then_more_rarely() {
        let times = written(Duration::from_millis(1), 40);
        let gaps: Vec<u128> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let row = usize::try_from(REPORTS_IN_A_ROW).unwrap();
        assert!(gaps[..row].iter().all(|gap| (1000..1200).contains(gap)), "{gaps:?}");
        assert!(gaps[row + 2..].iter().all(|gap| (5000..5200).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn what_rests_for_moments_only_is_written_more_rarely_too() {
        let times = written(Duration::from_millis(1250), 60);
        let last = times.len() - 1;
        assert!(times[last] - times[last - 10] >= 50_000 - 1250, "{times:?}");
    }

    #[test]
    fn failures_are_tried_again_more_and_more_rarely_and_forgotten() {
        let mut now = Instant::now();
        let mut pace = Pace::new(1.0);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            now = pace.due(now).max(now);
            pace.failed(now);
            pauses.push(pace.due(now) - now);
        }
        assert!(pauses[19] <= REPORT_RETRY_MAX && pauses[19] >= REPORT_RETRY_MAX / 2, "{pauses:?}");
        now = pace.due(now);
        assert_eq!(pace.written(now), now + REPORT_REFRESH);
        pace.nothing();
        assert!(pace.due(now) - now <= REPORT_INTERVAL_BUSY);
    }
}
