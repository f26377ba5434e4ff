//! How a connection ends: with the answer to a head that was refused, and with patience for a client that is still sending.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::{Guard, Phase};
use crate::config::limits;

/// How the connection ends.
pub(super) enum Farewell {
    Open,
    /// The answer to a head that was refused.
    Answer(Bytes),
    /// Our side is closed; what the client still sends is read, so that it gets to see the answer instead of a reset.
    Linger {
        left: usize,
    },
    Closed,
}

impl Guard {
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.phase, Phase::Tunnel) {
            // One direction has ended; what is kept back belongs to the other.
            return Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        loop {
            match &mut self.farewell {
                Farewell::Answer(answer) if answer.has_remaining() => {
                    let result = Pin::new(&mut self.stream).poll_write(cx, answer);
                    self.write_deadline.arm_once(limits::LINGER_TIMEOUT);
                    match result {
                        Poll::Ready(Ok(written)) => answer.advance(written),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return self.poll_out_of_time(cx, limits::LINGER_TIMEOUT).map(Err),
                    }
                }
                Farewell::Open | Farewell::Answer(_) => {
                    // Otherwise the socket is closed at once, which says the same to the client, unless it expects that to be said in TLS.
                    let lingers = self.is_mid_message();
                    if lingers || self.stream.ends_with_words() {
                        ready!(self.poll_last_words(cx))?;
                    }
                    self.farewell = if lingers {
                        self.write_deadline.arm(limits::LINGER_TIMEOUT);
                        Farewell::Linger { left: limits::LINGER_BYTES }
                    } else {
                        Farewell::Closed
                    };
                    self.stash = BytesMut::new();
                }
                Farewell::Linger { left: 0 } => self.farewell = Farewell::Closed,
                Farewell::Linger { left } => {
                    let left = *left;
                    let count = match self.poll_stash(cx) {
                        Poll::Ready(Ok(count)) => count,
                        Poll::Ready(Err(_)) => 0,
                        Poll::Pending => {
                            ready!(self.write_deadline.poll(cx));
                            0
                        }
                    };
                    self.stash.clear();
                    self.farewell = if count == 0 { Farewell::Closed } else { Farewell::Linger { left: left.saturating_sub(count) } };
                }
                Farewell::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Closes our side, which takes until everything is written that was said before: of a client that takes nothing, not for long.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        if result.is_pending() { self.poll_out_of_time(cx, limits::LINGER_TIMEOUT).map(Err) } else { result }
    }

    /// Whether the client may be in the middle of sending something that nobody will read.
    fn is_mid_message(&self) -> bool {
        matches!(self.phase, Phase::Body { .. } | Phase::Chunked(_) | Phase::Refused) || !self.stash.is_empty()
    }
}
