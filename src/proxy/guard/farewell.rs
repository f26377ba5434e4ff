//! How a connection ends: with the answer to a head that was refused, and with patience for a client that is still sending.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::{
    super::farewell::{Linger, poll_last_words},
    Guard, Phase,
};
use crate::config::limits;

/// How the connection ends.
pub(super) enum Farewell {
    Open,
    /// The answer to a head that was refused.
    Answer(Bytes),
    /// What the client still sends is read.
    Linger(Linger),
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
                    self.clock.start_once(limits::LINGER_TIMEOUT);
                    match result {
                        Poll::Ready(Ok(written)) => answer.advance(written),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return self.clock.poll_late(cx, limits::LINGER_TIMEOUT).map(Err),
                    }
                }
                Farewell::Open | Farewell::Answer(_) => {
                    // Otherwise the socket is closed at once, which says the same to the client, unless it expects that to be said in TLS.
                    let lingers = self.is_mid_message();
                    if lingers || self.stream.ends_with_words() {
                        ready!(poll_last_words(cx, &mut self.stream, &self.clock))?;
                    }
                    self.farewell = if lingers { Farewell::Linger(Linger::begin(&self.clock)) } else { Farewell::Closed };
                    self.stash = BytesMut::new();
                }
                Farewell::Linger(linger) => {
                    ready!(linger.poll(cx, &mut self.stream, &mut self.stash, &self.clock));
                    self.farewell = Farewell::Closed;
                }
                Farewell::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Whether the client may be in the middle of sending something that nobody will read.
    fn is_mid_message(&self) -> bool {
        matches!(self.phase, Phase::Body { .. } | Phase::Chunked(_) | Phase::Refused) || !self.stash.is_empty()
    }
}
