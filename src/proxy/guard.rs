//! The client's socket as the HTTP server sees it: an [`AsyncRead`] that hands out one message at a time, each head whole and checked
//! ([`framing`]), and that keeps the deadlines for idle connections, slow heads and stalled writes.
//!
//! The server never sees bytes that two parsers could understand differently, and never more than one message ahead. A refused head looks to
//! it like the end of the connection; the refusal is written when it shuts the socket down, behind every response that came before.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    answer,
    connection::{BodyFault, Connection},
    deadline::Deadline,
    error::Reason,
};
use crate::{
    config::limits,
    message::framing::{self, ChunkScanner, Framing, HeadError},
};

/// Bytes of the next message that are kept while the current one is answered. Beyond: they stay in the kernel.
const STASH_BYTES: usize = 16 * 1024;

/// Room for a read where the server hasn't given any.
const READ_BYTES: usize = 4096;

/// A client connection, one message at a time.
pub(crate) struct Guard {
    stream: TcpStream,
    conn: Rc<Connection>,
    phase: Phase,
    /// Bytes that were read and not handed out yet.
    stash: BytesMut,
    /// How much of the stash was searched for the end of a head in vain.
    searched: usize,
    read_deadline: Deadline,
    timing: Timing,
    write_deadline: Deadline,
    /// Bytes that a tunnel has moved from the client, and to it.
    moved: (u64, u64),
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

/// What the read deadline is set for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timing {
    Nothing,
    Idle,
    Head,
    Tunnel,
}

/// How the connection ends.
enum Farewell {
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
    pub(crate) fn new(stream: TcpStream, conn: Rc<Connection>) -> Self {
        let (read_deadline, write_deadline) = (conn.worker().deadlines.register(), conn.worker().deadlines.register());
        Self {
            stream,
            conn,
            phase: Phase::Head,
            stash: BytesMut::new(),
            searched: 0,
            read_deadline,
            timing: Timing::Nothing,
            write_deadline,
            moved: (0, 0),
            ending: false,
            farewell: Farewell::Open,
        }
    }

    /// From now on bytes pass as they come, in both directions, until neither has seen one for the tunnel's idle timeout.
    pub(crate) fn into_tunnel(mut self) -> Self {
        self.phase = Phase::Tunnel;
        self.timing = Timing::Nothing;
        self
    }

    /// Bytes that the tunnel has moved from the client, and to it.
    pub(crate) fn moved(&self) -> (u64, u64) {
        self.moved
    }

    fn time(&mut self, timing: Timing) {
        if self.timing == timing {
            return;
        }
        self.timing = timing;
        let limits = &self.conn.worker().settings.limits;
        match timing {
            Timing::Nothing => self.read_deadline.disarm(),
            // Taken out of the listening queue at the last moment: its request is on its way, or never comes.
            Timing::Idle if self.conn.worker().is_draining() => self.read_deadline.arm(limits::DRAIN_FIRST_REQUEST_TIMEOUT),
            Timing::Idle => self.read_deadline.arm(limits.keep_alive_timeout),
            Timing::Head => self.read_deadline.arm(limits.header_read_timeout),
            Timing::Tunnel => self.read_deadline.arm(limits.tunnel_idle_timeout),
        }
    }

    /// A tunnel lives as long as either direction moves.
    fn tunnel_moved(&mut self) {
        self.timing = Timing::Nothing;
        self.time(Timing::Tunnel);
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
                        self.stash.extend_from_slice(new.get(end..).unwrap_or_default());
                        buf.set_filled(before + end);
                        self.begin_message(framing);
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
            if !self.stash.is_empty() {
                self.conn.set_mid_head(true);
                self.time(Timing::Head);
            }
            match self.poll_stash(cx)? {
                Poll::Ready(0) => return self.poll_end(cx),
                Poll::Ready(_) => {}
                Poll::Pending => return self.poll_head_deadline(cx),
            }
        }
    }

    /// Looks for a whole head in the stash, and checks it.
    fn find_head(&mut self) -> Option<Result<(usize, Framing), Reason>> {
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

    fn check(&self, head: &[u8]) -> Result<Framing, Reason> {
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

    fn begin_message(&mut self, framing: Framing) {
        self.time(Timing::Nothing);
        self.conn.message_began();
        self.phase = match framing {
            Framing::None => Phase::Answering,
            Framing::Length(left) => Phase::Body { left },
            Framing::Chunked => Phase::Chunked(ChunkScanner::new(limits::REQUEST_HEAD_BYTES)),
        };
    }

    fn poll_deliver(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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

    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stash.is_empty() {
            self.time(Timing::Idle);
        }
        ready!(self.read_deadline.poll(cx));
        if self.stash.is_empty() {
            self.conn.worker().count(|numbers| numbers.keep_alive_timeouts += 1);
            self.poll_end(cx)
        } else {
            self.refuse(Reason::ClientTimeout, cx)
        }
    }

    /// No request comes of this: an answer of our own is written when the server shuts down, which it does when it sees the end of the connection.
    fn refuse(&mut self, reason: Reason, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.time(Timing::Nothing);
        self.conn.set_mid_head(false);
        self.conn.record_refusal(reason);
        self.stash = BytesMut::new();
        self.phase = Phase::Refused;
        self.farewell = Farewell::Answer(answer::raw(reason, self.conn.worker().settings.server_header));
        self.poll_end(cx)
    }

    /// Shows the server the end of the connection, at which it shuts the socket down without another look at what it hasn't written: so not before it
    /// has flushed. `poll_flush` wakes it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ending = self.conn.is_unflushed();
        if self.ending {
            self.conn.remember_waker(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        let end = self.scan(count, buf.filled().get(before..))?;
        self.stash.extend_from_slice(buf.filled().get(before + end..).unwrap_or_default());
        buf.set_filled(before + end);
        Poll::Ready(Ok(()))
    }

    /// Follows the body through its next `count` bytes, which are `new` or else the beginning of the stash. Returns how many belong to this message.
    fn scan(&mut self, count: usize, new: Option<&[u8]>) -> io::Result<usize> {
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
                        self.conn.set_body_fault(BodyFault::Malformed);
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error.0));
                    }
                }
            }
            _ => (count, false),
        };
        if done {
            self.phase = Phase::Answering;
        }
        Ok(taken)
    }

    /// While a request is being answered, all we want to know is whether its client is still there.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.stash.len() >= STASH_BYTES {
                return Poll::Pending;
            }
            if ready!(self.poll_stash(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads into the stash. 0: the client has closed its side.
    fn poll_stash(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            self.stash.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.stash) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stash.is_empty() {
                        self.stash = BytesMut::new();
                    }
                }
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.stash.is_empty() {
            self.moved.0 += self.give(buf, usize::MAX) as u64;
            return Poll::Ready(Ok(()));
        }
        self.time(Timing::Tunnel);
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.moved.0 += (buf.filled().len() - before) as u64;
            self.tunnel_moved();
            return Poll::Ready(result);
        }
        ready!(self.read_deadline.poll(cx));
        self.conn.worker().count(|numbers| numbers.tunnel_timeouts += 1);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Common to both ways of writing: progress lifts the deadline, a stall arms it.
    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.conn.set_unflushed(true);
        if result.is_ready() {
            self.write_deadline.disarm();
            if let (Phase::Tunnel, Poll::Ready(Ok(written))) = (&self.phase, &result) {
                self.moved.1 += *written as u64;
                self.tunnel_moved();
            }
            return result;
        }
        self.write_deadline.arm_once(self.conn.worker().settings.limits.write_stall_timeout);
        ready!(self.write_deadline.poll(cx));
        self.conn.worker().count(|numbers| numbers.write_stalls += 1);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether the client may be in the middle of sending something that nobody will read.
    fn is_mid_message(&self) -> bool {
        matches!(self.phase, Phase::Body { .. } | Phase::Chunked(_) | Phase::Refused) || !self.stash.is_empty()
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
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
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn.set_unflushed(false);
        if std::mem::take(&mut this.ending) {
            this.conn.wake();
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.farewell {
                Farewell::Answer(answer) if answer.has_remaining() => {
                    let result = Pin::new(&mut this.stream).poll_write(cx, answer);
                    this.write_deadline.arm_once(limits::LINGER_TIMEOUT);
                    match result {
                        Poll::Ready(Ok(written)) => answer.advance(written),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => {
                            ready!(this.write_deadline.poll(cx));
                            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                        }
                    }
                }
                Farewell::Open | Farewell::Answer(_) => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    let left = if this.is_mid_message() { limits::LINGER_BYTES } else { 0 };
                    this.stash = BytesMut::new();
                    this.write_deadline.arm(limits::LINGER_TIMEOUT);
                    this.farewell = if left == 0 { Farewell::Closed } else { Farewell::Linger { left } };
                }
                Farewell::Linger { left: 0 } => this.farewell = Farewell::Closed,
                Farewell::Linger { left } => {
                    let left = *left;
                    let count = match this.poll_stash(cx) {
                        Poll::Ready(Ok(count)) => count,
                        Poll::Ready(Err(_)) => 0,
                        Poll::Pending => {
                            ready!(this.write_deadline.poll(cx));
                            0
                        }
                    };
                    this.stash.clear();
                    this.farewell = if count == 0 { Farewell::Closed } else { Farewell::Linger { left: left.saturating_sub(count) } };
                }
                Farewell::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}
