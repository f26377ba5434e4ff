//! The client's socket as the HTTP/2 server sees it: after a whole preface, with a look at each frame's header for what the server puts up with for ever, and
//! with a deadline for what is written.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{
    super::{
        connection::Timing,
        farewell::{Linger, WriteClock, poll_last_words},
        stream::Stream,
    },
    frames::{Frame, Scanner},
    shared::Shared,
};
use crate::config::limits;

/// What a client of HTTP/2 says first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// To whoever says something else: no settings, and `GOAWAY` for a protocol error before any stream.
const NO_HTTP2: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01";

/// See above.
pub(super) struct FrameGuard {
    stream: Stream,
    shared: Rc<Shared>,
    scanner: Scanner,
    /// Whether the preface has been shown to the server, which reads it once more.
    begun: bool,
    /// The client's `SETTINGS` has begun, which comes before all other frames.
    settled: bool,
    /// Bytes that were read, and not handed out yet.
    stash: BytesMut,
    clock: WriteClock,
    /// The clock is that of the last words.
    hurries: bool,
    end: End,
}

/// How far the connection's end has come.
enum End {
    Open,
    Linger(Linger),
}

/// The socket didn't speak HTTP/2, in time or at all.
pub(super) struct NotHttp2;

impl FrameGuard {
    pub(super) fn new(stream: Stream, shared: Rc<Shared>) -> Self {
        let clock = WriteClock::new(shared.connection.worker());
        Self {
            stream,
            shared,
            scanner: Scanner::default(),
            begun: false,
            settled: false,
            stash: BytesMut::new(),
            clock,
            hurries: false,
            end: End::Open,
        }
    }

    /// Waits for the preface, so that there is no server for a client that never sends one.
    pub(super) async fn preface(mut self) -> Result<Self, NotHttp2> {
        let shared = Rc::clone(&self.shared);
        let (connection, worker) = (&shared.connection, shared.connection.worker());
        connection.time(Timing::Preface);
        let is_preface = poll_fn(|cx| {
            connection.remember_waker(cx.waker());
            loop {
                let start = self.stash.get(..PREFACE.len().min(self.stash.len())).unwrap_or_default();
                if !PREFACE.starts_with(start) {
                    return Poll::Ready(Some(false));
                }
                if start.len() == PREFACE.len() {
                    return Poll::Ready(Some(true));
                }
                match self.stream.poll_read_into(cx, &mut self.stash) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        ready!(connection.poll_late(cx));
                        worker.count(|numbers| numbers.request_timeouts += 1);
                        return Poll::Ready(None);
                    }
                }
            }
        })
        .await;
        if is_preface == Some(true) {
            connection.time(Timing::Nothing);
            return Ok(self);
        }
        if is_preface == Some(false) {
            // It is told why, or is gone.
            let _ = self.write_all(NO_HTTP2).await;
        }
        let _ = self.shutdown().await;
        Err(NotHttp2)
    }

    /// Takes note of what the server is about to see.
    fn scan(scanner: &mut Scanner, settled: &mut bool, shared: &Shared, bytes: &[u8]) {
        scanner.feed(bytes, |frame| {
            if !std::mem::replace(settled, true) && frame != Frame::Settings {
                return shared.fail(Reason::PROTOCOL_ERROR);
            }
            match frame {
                Frame::Head => shared.earn_frames(1),
                Frame::Body(bytes) => {
                    shared.uploads.arrives(bytes);
                    shared.earn_frames(1);
                }
                Frame::Reset => {
                    shared.spend_reset();
                    shared.spend_frame();
                }
                Frame::Settings | Frame::Other => shared.spend_frame(),
            }
        });
        shared.connection.set_mid_head(scanner.is_mid_head());
    }
}

impl AsyncRead for FrameGuard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.shared.fault().is_some() {
            // Whoever drives the connection ends it.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.stash.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let most = if this.begun { this.stash.len() } else { PREFACE.len() };
            let count = most.min(this.stash.len()).min(buf.remaining());
            buf.put_slice(this.stash.get(..count).unwrap_or_default());
            this.stash.advance(count);
            if !std::mem::replace(&mut this.begun, true) {
                return Poll::Ready(Ok(()));
            }
            if this.stash.is_empty() {
                this.stash = BytesMut::new();
            }
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        Self::scan(&mut this.scanner, &mut this.settled, &this.shared, new);
        Poll::Ready(Ok(()))
    }
}

impl FrameGuard {
    /// Common to all ways of writing: progress stops the clock, a stall starts it.
    fn wrote<T>(&mut self, cx: &Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.clock.note_progress(&self.stream, self.stream.taken().is_none());
            return result;
        }
        if self.shared.is_closing() {
            if !std::mem::replace(&mut self.hurries, true) {
                self.clock.start(limits::LINGER_TIMEOUT);
            }
            return self.clock.poll_late(cx, limits::LINGER_TIMEOUT).map(Err);
        }
        self.clock.poll_stalled(cx, &self.stream, self.shared.connection.worker()).map(Err)
    }
}

impl AsyncWrite for FrameGuard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.connection.set_unflushed(true);
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(cx, result)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.connection.set_unflushed(true);
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        let result = this.wrote(cx, result);
        if let Poll::Ready(Ok(())) = &result {
            this.clock.stop();
            this.shared.connection.set_unflushed(false);
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.end {
                End::Open => {
                    ready!(poll_last_words(cx, &mut this.stream, &this.clock))?;
                    this.end = End::Linger(Linger::begin(&this.clock));
                }
                End::Linger(linger) => {
                    return linger.poll(cx, &mut this.stream, &mut this.stash, &this.clock).map(Ok);
                }
            }
        }
    }
}
