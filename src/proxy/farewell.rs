//! How long a client may take to take what we write, and how a connection ends without a reset that would hide our last words from it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use super::{deadline::Deadline, stream::Stream, worker::Worker};
use crate::config::limits;

/// The clock for what a client takes. Progress stops it, a stall starts it.
pub(super) struct WriteClock {
    deadline: Deadline,
    /// What [`Stream::taken`] said when it was asked last.
    taken: u64,
}

impl WriteClock {
    pub(super) fn new(worker: &Worker) -> Self {
        Self { deadline: worker.deadlines.register(), taken: 0 }
    }

    /// Stops the clock if the client has taken something: as the caller knows, or as the socket below TLS tells.
    pub(super) fn note_progress(&mut self, stream: &Stream, known: bool) {
        let taken = stream.taken().unwrap_or_default();
        if std::mem::replace(&mut self.taken, taken) != taken || known {
            self.deadline.disarm();
        }
    }

    /// Ready when the client has taken nothing for too long.
    pub(super) fn poll_stalled(&mut self, cx: &Context<'_>, stream: &Stream, worker: &Worker) -> Poll<io::Error> {
        self.note_progress(stream, false);
        let error = ready!(self.poll_late(cx, worker.settings.limits.write_stall_timeout));
        worker.count(|numbers| numbers.write_stalls += 1);
        Poll::Ready(error)
    }

    /// Ready when the deadline has passed, which runs from the first time that this is asked.
    pub(super) fn poll_late(&self, cx: &Context<'_>, after: Duration) -> Poll<io::Error> {
        self.deadline.arm_once(after);
        self.deadline.poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }

    pub(super) fn start(&self, after: Duration) {
        self.deadline.arm(after);
    }

    pub(super) fn start_once(&self, after: Duration) {
        self.deadline.arm_once(after);
    }

    pub(super) fn stop(&self) {
        self.deadline.disarm();
    }
}

/// Closes our side, which takes until everything is written that was said before: of a client that takes nothing, not for long.
pub(super) fn poll_last_words(cx: &mut Context<'_>, stream: &mut Stream, clock: &WriteClock) -> Poll<io::Result<()>> {
    let result = Pin::new(stream).poll_shutdown(cx);
    if result.is_pending() { clock.poll_late(cx, limits::LINGER_TIMEOUT).map(Err) } else { result }
}

/// Our side is closed; what the client still sends is read, so that it gets to see our last words instead of a reset.
pub(super) struct Linger {
    left: usize,
}

impl Linger {
    pub(super) fn begin(clock: &WriteClock) -> Self {
        clock.start(limits::LINGER_TIMEOUT);
        Self { left: limits::LINGER_BYTES }
    }

    /// Ready when the client has closed its side, too, or has had enough time and sent enough.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream, scratch: &mut BytesMut, clock: &WriteClock) -> Poll<()> {
        while self.left > 0 {
            let count = match stream.poll_read_into(cx, scratch) {
                Poll::Ready(result) => result.unwrap_or(0),
                Poll::Pending => {
                    ready!(clock.deadline.poll(cx));
                    0
                }
            };
            scratch.clear();
            if count == 0 {
                break;
            }
            self.left = self.left.saturating_sub(count);
        }
        Poll::Ready(())
    }
}
