//! The client's socket as the HTTP server sees it: one message at a time, each head whole and checked, with deadlines for whatever is late.
//! The server never sees bytes that two parsers could understand differently, and never more than one message ahead. A refused head looks to
//! it like the end of the connection; the refusal is written when it shuts the socket down, behind every response that came before.

mod body;
mod farewell;
mod head;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::farewell::Farewell;
use super::{
    connection::{Connection, Lane, Timing},
    farewell::WriteClock,
    stream::Stream,
};
use crate::{
    config::limits,
    message::framing::{ChunkScanner, Framing},
};

/// A client connection, one message at a time.
pub(crate) struct Guard {
    stream: Stream,
    conn: Rc<Connection>,
    lane: Rc<Lane>,
    phase: Phase,
    /// Bytes that were read and not handed out yet.
    stash: BytesMut,
    /// How much of the stash was searched for the end of a head in vain.
    searched: usize,
    clock: WriteClock,
    /// The server is to see the end of the connection as soon as it has flushed.
    ending: bool,
    farewell: Farewell,
}

/// What the next bytes are.
enum Phase {
    /// A head, or nothing for as long as the client is idle.
    Head,
    /// The rest of a head that is checked, for as many bytes of the stash, and the phase after it.
    Deliver { left: usize, framing: Framing },
    /// A body of known length.
    Body { left: u64 },
    /// A chunked body.
    Chunked(ChunkScanner),
    /// Nothing more until the response is complete.
    Answering,
    /// Nothing more at all.
    Refused,
    /// Whatever the two ends of a tunnel tell each other.
    Tunnel,
}

impl Guard {
    pub(crate) fn new(stream: Stream, lane: Rc<Lane>) -> Self {
        let conn = Rc::clone(lane.connection());
        let clock = WriteClock::new(conn.worker());
        Self { stream, conn, lane, phase: Phase::Head, stash: BytesMut::new(), searched: 0, clock, ending: false, farewell: Farewell::Open }
    }

    /// Resolves when a server has something to do: the client says something or closes, is late, or shall go.
    pub(crate) async fn stirred(&mut self) {
        debug_assert!(matches!((&self.phase, &self.farewell), (Phase::Head, Farewell::Open)) && !self.ending);
        poll_fn(|cx| {
            self.lane.remember_waker(cx.waker());
            self.conn.time(Timing::Idle);
            if !self.stash.is_empty() || self.conn.wants_to_end() || self.conn.poll_late(cx).is_ready() {
                return Poll::Ready(());
            }
            // Read, and not only asked for: of a new connection the runtime assumes that there is something, and a server for one that has said nothing yet
            // would keep its buffers for a second. What has ended, or is wrong with the socket, is an end for the server, too, when it reads.
            self.poll_stash(cx).map(drop)
        })
        .await;
    }

    /// From now on bytes pass as they come, in both directions.
    pub(crate) fn into_tunnel(mut self) -> Self {
        self.phase = Phase::Tunnel;
        self
    }

    /// Ends the connection with a reset: the client is to see that its response is not whole.
    pub(crate) fn reset(self) {
        self.stream.reset_when_closed();
    }

    /// Hands out up to `most` bytes of the stash.
    fn give(&mut self, buf: &mut ReadBuf<'_>, most: usize) -> usize {
        let count = most.min(self.stash.len()).min(buf.remaining());
        buf.put_slice(self.stash.get(..count).unwrap_or_default());
        self.stash.advance(count);
        if self.stash.is_empty() {
            // An idle connection holds no memory for what it said.
            self.stash = BytesMut::new();
        }
        count
    }

    /// Reads into the stash. 0: the client has closed its side.
    fn poll_stash(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.stream.poll_read_into(cx, &mut self.stash)
    }

    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.stash.is_empty() {
            self.give(buf, usize::MAX);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    /// Common to both ways of writing: progress lifts the deadline, a stall arms it.
    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.conn.set_unflushed(true);
        if result.is_ready() {
            self.clock.note_progress(&self.stream, self.stream.taken().is_none());
            return result;
        }
        self.clock.poll_stalled(cx, &self.stream, self.conn.worker()).map(Err)
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn.set_awaits_head(false);
        if matches!(this.phase, Phase::Answering) {
            if this.conn.is_answering() {
                return this.poll_gone(cx);
            }
            this.phase = Phase::Head;
        }
        match this.phase {
            Phase::Head => this.poll_head(cx, buf),
            Phase::Deliver { .. } => this.poll_deliver(buf),
            Phase::Body { .. } | Phase::Chunked(_) => this.poll_body(cx, buf),
            Phase::Refused => this.poll_end(cx),
            Phase::Tunnel => this.poll_tunnel(cx, buf),
            Phase::Answering => Poll::Pending,
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(cx, result)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // A small response is cheaper to copy than to write in pieces.
        let small = bufs.iter().map(|buf| buf.len()).sum::<usize>() <= limits::JOINED_WRITE_BYTES;
        let result = if small {
            let mut joined = this.conn.worker().scratch.borrow_mut();
            joined.clear();
            for buf in bufs {
                joined.extend_from_slice(buf);
            }
            Pin::new(&mut this.stream).poll_write(cx, &joined)
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
        };
        this.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // Encrypted already, and on our side still.
            Poll::Pending => return this.clock.poll_stalled(cx, &this.stream, this.conn.worker()).map(Err),
        }
        // Not that of the farewell, during which the server goes on flushing.
        if matches!(this.farewell, Farewell::Open) {
            this.clock.stop();
        }
        this.conn.set_unflushed(false);
        if std::mem::take(&mut this.ending) {
            this.conn.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn.set_awaits_head(false);
        this.poll_farewell(cx)
    }
}
