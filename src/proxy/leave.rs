//! The end of a worker, as those see it whose streams would go on: each ends at a moment of its own, and not all in one second, since all of them come back.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use slab::Slab;
use tokio::time::Instant;

use super::{deadline::Deadline, worker::Worker};
use crate::config::limits::STREAM_FAREWELL;

/// The endless streams of a worker, and when it leaves.
#[derive(Default)]
pub(crate) struct Streams {
    open: RefCell<Slab<Rc<Deadline>>>,
    until: Cell<Option<Instant>>,
}

impl Streams {
    /// The worker ends at this moment, and each stream before.
    pub(crate) fn leave(&self, worker: &Worker, until: Instant) {
        self.until.set(Some(until));
        for (_, stream) in self.open.borrow().iter() {
            stream.arm(when(worker, until));
        }
    }
}

/// A moment for one stream to end.
fn when(worker: &Worker, until: Instant) -> Duration {
    let Range { start, end } = window(until.saturating_duration_since(Instant::now()));
    start + end.saturating_sub(start).mul_f64(worker.random.borrow_mut().f64())
}

/// When streams end, of a drain that takes this long: in its second half, so that what is short is over by itself, and with time left for an answer.
fn window(drain: Duration) -> Range<Duration> {
    let end = drain.saturating_sub(STREAM_FAREWELL);
    end / 2..end
}

/// A stream in its worker's books, for as long as it lives.
pub(crate) struct OpenStream {
    worker: Rc<Worker>,
    key: usize,
    leave: Rc<Deadline>,
}

impl OpenStream {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        let leave = Rc::new(worker.deadlines.register());
        if let Some(until) = worker.streams.until.get() {
            leave.arm(when(worker, until));
        }
        let key = worker.streams.open.borrow_mut().insert(Rc::clone(&leave));
        Self { worker: Rc::clone(worker), key, leave }
    }

    /// Its worker.
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Ready when it is time for it to end.
    pub(crate) fn poll_leave(&self, cx: &Context<'_>) -> Poll<()> {
        self.leave.poll(cx)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.worker.streams.open.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_end_in_the_second_half_of_a_drain_and_not_at_its_end() {
        let seconds = Duration::from_secs;
        for (drain, expected) in [(0, 0..0), (1, 0..0), (2, 0..0), (4, 1..2), (26, 12..24), (602, 300..600)] {
            let Range { start, end } = window(seconds(drain));
            assert_eq!((start, end), (seconds(expected.start), seconds(expected.end)), "of {drain} s");
        }
    }
}
