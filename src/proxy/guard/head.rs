//! Heads: found, checked as raw bytes, and handed to the server whole; or refused.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    super::{answer, connection::Timing, error::Reason},
    Farewell, Guard, Phase,
};
use crate::{
    config::limits,
    message::framing::{self, ChunkScanner, Framing, HeadError},
};

impl Guard {
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stash.is_empty() {
            let before = buf.filled().len();
            match Pin::new(&mut self.stream).poll_read(cx, buf)? {
                Poll::Pending => return self.poll_head_deadline(cx),
                Poll::Ready(()) => {}
            }
            let Some(new) = buf.filled().get(before..) else { return Poll::Ready(Ok(())) };
            if new.is_empty() {
                return self.poll_end(cx);
            }
            // The common case: the whole head, and nothing else, right in the server's buffer.
            let whole = if matches!(new.first(), Some(b'\r' | b'\n')) { None } else { framing::end_of_head(new, 0) };
            if let Some(end) = whole {
                match self.check(new.get(..end).unwrap_or_default()) {
                    Ok(framing) => {
                        let rest = new.get(end..).unwrap_or_default();
                        self.begin_message(framing);
                        // What has come of a body goes along, and isn't copied. Not of a chunked one: what is wrong with that mustn't hide its head.
                        let along = if matches!(framing, Framing::Length(_)) { self.scan(rest.len(), None)? } else { 0 };
                        self.stash.extend_from_slice(rest.get(along..).unwrap_or_default());
                        buf.set_filled(before + end + along);
                        return Poll::Ready(Ok(()));
                    }
                    Err(reason) => {
                        buf.set_filled(before);
                        return self.refuse(reason, cx);
                    }
                }
            }
            self.stash.extend_from_slice(new);
            buf.set_filled(before);
        }
        loop {
            if let Some(verdict) = self.find_head() {
                match verdict {
                    Ok((left, framing)) => {
                        self.phase = Phase::Deliver { left, framing };
                        return self.poll_deliver(buf);
                    }
                    Err(reason) => return self.refuse(reason, cx),
                }
            }
            self.conn.set_mid_head(!self.stash.is_empty());
            self.conn.time(if self.stash.is_empty() { Timing::Idle } else { Timing::Head });
            match self.poll_stash(cx)? {
                Poll::Ready(0) => return self.poll_end(cx),
                Poll::Ready(_) => {}
                Poll::Pending => return self.poll_head_deadline(cx),
            }
        }
    }

    /// Looks for a whole head in the stash, and checks it.
    pub(super) fn find_head(&mut self) -> Option<Result<(usize, Framing), Reason>> {
        // RFC 9112 section 2.2: an empty line before a request is to be ignored.
        while self.stash.starts_with(b"\r\n") {
            self.stash.advance(2);
            self.searched = 0;
        }
        let Some(end) = framing::end_of_head(&self.stash, self.searched) else {
            self.searched = self.stash.len();
            let over = self.stash.len() > self.conn.worker().settings.limits.request_head_bytes;
            return over.then_some(Err(Reason::HeaderLimit));
        };
        self.searched = 0;
        Some(self.check(self.stash.get(..end).unwrap_or_default()).map(|framing| (end, framing)))
    }

    pub(super) fn check(&self, head: &[u8]) -> Result<Framing, Reason> {
        let limits = &self.conn.worker().settings.limits;
        if head.len() > limits.request_head_bytes {
            return Err(Reason::HeaderLimit);
        }
        framing::check_head(head, limits.request_header_count).map_err(|error| match error {
            HeadError::TooManyFields => Reason::HeaderLimit,
            HeadError::Malformed(what) => {
                tracing::debug!(peer = %self.conn.peer(), what, "refused a head");
                Reason::BadRequest
            }
        })
    }

    pub(super) fn begin_message(&mut self, framing: Framing) {
        self.conn.time(Timing::Nothing);
        self.lane.message_began(framing != Framing::None);
        self.phase = match framing {
            Framing::None => Phase::Answering,
            Framing::Length(left) => Phase::Body { left },
            Framing::Chunked => Phase::Chunked(ChunkScanner::new(limits::CHUNK_OVERHEAD_BYTES)),
        };
    }

    pub(super) fn poll_deliver(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Phase::Deliver { left, framing } = self.phase {
            let given = self.give(buf, left);
            if given == left {
                self.begin_message(framing);
            } else {
                self.phase = Phase::Deliver { left: left - given, framing };
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stash.is_empty() {
            self.conn.time(Timing::Idle);
        }
        if self.conn.poll_late(cx).is_pending() {
            self.conn.set_awaits_head(self.stash.is_empty());
            return Poll::Pending;
        }
        if self.stash.is_empty() {
            self.conn.worker().count(|numbers| numbers.keep_alive_timeouts += 1);
            self.poll_end(cx)
        } else {
            self.conn.worker().count(|numbers| numbers.request_timeouts += 1);
            self.refuse(Reason::ClientTimeout, cx)
        }
    }

    /// No request comes of this: an answer of our own is written when the server shuts down, which it does when it sees the end of the connection.
    pub(super) fn refuse(&mut self, reason: Reason, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.time(Timing::Nothing);
        self.conn.set_mid_head(false);
        self.conn.record_refusal(reason);
        self.stash = BytesMut::new();
        self.phase = Phase::Refused;
        let worker = self.conn.worker();
        let date = worker.date();
        self.farewell = Farewell::Answer(answer::raw(reason, worker.settings.server_header, date.to_str().unwrap_or_default()));
        self.poll_end(cx)
    }

    /// Shows the server the end of the connection, at which it shuts the socket down without another look at what it hasn't written: so not before it
    /// has flushed. `poll_flush` wakes it.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ending = self.conn.is_unflushed();
        if self.ending {
            self.lane.remember_waker(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}
