//! What the parts of one HTTP/2 connection know of each other: its guard, the task that drives it, and its streams.

use std::{cell::Cell, rc::Rc, time::Duration};

use h2::Reason;
use tokio::time::Instant;

use super::{super::connection::Connection, window::Uploads};
use crate::config::limits;

/// Bytes of a frame that is sent, at the most (`SETTINGS_MAX_FRAME_SIZE`, unless the client allows more).
const FRAME_BYTES: usize = 16 * 1024;

/// See above.
pub(super) struct Shared {
    pub(super) connection: Rc<Connection>,
    /// Frames that may come which bring nothing.
    frames: Allowance,
    /// Requests that may be given up before they are answered.
    resets: Allowance,
    pub(super) uploads: Uploads,
    /// Why the connection must end now.
    fault: Cell<Option<Reason>>,
    /// It ends: nobody is waited for any longer than for a farewell.
    closing: Cell<bool>,
}

impl Shared {
    pub(super) fn new(connection: Rc<Connection>) -> Rc<Self> {
        let now = connection.worker().deadlines.now();
        Rc::new(Self {
            connection,
            frames: Allowance::new(limits::HTTP2_IDLE_FRAMES, limits::HTTP2_IDLE_FRAMES_PER_SECOND, now),
            resets: Allowance::new(limits::HTTP2_RESETS, limits::HTTP2_RESETS_PER_SECOND, now),
            uploads: Uploads::default(),
            fault: Cell::new(None),
            closing: Cell::new(false),
        })
    }

    /// The client has sent so many pieces of something of use, or is about to get them: it takes some frames to say so.
    pub(super) fn earn_frames(&self, pieces: usize) {
        self.frames.earn(u32::try_from(pieces).unwrap_or(u32::MAX).saturating_mul(limits::HTTP2_FRAMES_EARNED));
    }

    /// The client is about to get so many bytes, and may answer each piece of them with an update of its windows.
    pub(super) fn earn_pieces(&self, bytes: usize) {
        self.earn_frames(bytes.div_ceil(FRAME_BYTES).max(1));
    }

    pub(super) fn spend_frame(&self) {
        self.spend(&self.frames);
    }

    /// A response is complete.
    pub(super) fn earn_reset(&self) {
        self.resets.earn(1);
    }

    pub(super) fn spend_reset(&self) {
        self.spend(&self.resets);
    }

    fn spend(&self, allowance: &Allowance) {
        if !allowance.spend(self.connection.worker().deadlines.now()) && self.fault.get().is_none() {
            self.connection.worker().count(|numbers| numbers.http2_floods += 1);
            self.fail(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// The connection must end, for this reason.
    pub(super) fn fail(&self, reason: Reason) {
        if self.fault.get().is_none() {
            self.fault.set(Some(reason));
            self.connection.wake();
        }
    }

    pub(super) fn fault(&self) -> Option<Reason> {
        self.fault.get()
    }

    pub(super) fn close(&self) {
        self.closing.set(true);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }
}

/// How often something may happen: a number that can be saved up, and grows with time.
struct Allowance {
    most: u32,
    each: Duration,
    left: Cell<u32>,
    /// Up to when time has been counted.
    counted: Cell<Instant>,
}

impl Allowance {
    fn new(most: u32, per_second: u32, now: Instant) -> Self {
        Self { most, each: Duration::from_secs(1) / per_second.max(1), left: Cell::new(most), counted: Cell::new(now) }
    }

    fn earn(&self, count: u32) {
        self.left.set(self.left.get().saturating_add(count).min(self.most));
    }

    /// False: it has happened too often.
    fn spend(&self, now: Instant) -> bool {
        if self.left.get() == 0 {
            let elapsed = now.saturating_duration_since(self.counted.get());
            self.counted.set(now);
            self.earn(u32::try_from(elapsed.as_nanos() / self.each.as_nanos().max(1)).unwrap_or(u32::MAX));
        }
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_spent_earned_and_grows_with_time() {
        let start = Instant::now();
        let allowance = Allowance::new(3, 2, start);
        let spent_at = |now: Instant| std::iter::from_fn(|| allowance.spend(now).then_some(())).take(100).count();
        assert_eq!(spent_at(start), 3);
        assert_eq!(spent_at(start), 0);
        allowance.earn(2);
        assert_eq!(spent_at(start), 2);
        assert_eq!(spent_at(start + Duration::from_secs(1)), 2, "two a second");
        assert_eq!(spent_at(start + Duration::from_secs(60)), 3, "no more than that are saved up");
        allowance.earn(u32::MAX);
        assert_eq!(spent_at(start + Duration::from_secs(60)), 3);
    }
}
