//! Bodies: followed to their end, so that what comes behind them is seen as the next head and nothing else.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{super::connection::BodyFault, Guard, Phase};
use crate::config::limits::STASH_BYTES;

impl Guard {
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !self.stash.is_empty() {
            let count = self.stash.len().min(buf.remaining());
            let end = match self.scan(count, None) {
                Ok(end) => end,
                Err(error) => return Poll::Ready(Err(error)),
            };
            self.give(buf, end);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let count = buf.filled().len() - before;
        if count == 0 {
            self.lane.set_body_fault(BodyFault::Gone);
        }
        read?;
        let end = self.scan(count, buf.filled().get(before..))?;
        self.stash.extend_from_slice(buf.filled().get(before + end..).unwrap_or_default());
        buf.set_filled(before + end);
        Poll::Ready(Ok(()))
    }

    /// Follows the body through its next `count` bytes, which are `new` or else the beginning of the stash. Returns how many belong to this message.
    pub(super) fn scan(&mut self, count: usize, new: Option<&[u8]>) -> io::Result<usize> {
        let (taken, done) = match &mut self.phase {
            Phase::Body { left } => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(count);
                *left -= taken as u64;
                (taken, *left == 0)
            }
            Phase::Chunked(scanner) => {
                let bytes = new.unwrap_or_else(|| self.stash.get(..count).unwrap_or_default());
                match scanner.feed(bytes) {
                    Ok(Some(end)) => (end, true),
                    Ok(None) => (count, false),
                    Err(error) => {
                        self.lane.set_body_fault(BodyFault::Malformed);
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error.0));
                    }
                }
            }
            Phase::Head | Phase::Deliver { .. } | Phase::Answering | Phase::Refused | Phase::Tunnel => (count, false),
        };
        if done {
            self.conn.body_ended();
            self.phase = Phase::Answering;
        }
        Ok(taken)
    }

    /// While a request is being answered, all we want to know is whether its client is still there.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // What is kept back won't be announced by the socket again.
            self.conn.set_held_back(!self.stash.is_empty());
            if self.stash.len() >= STASH_BYTES {
                return Poll::Pending;
            }
            if ready!(self.poll_stash(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
