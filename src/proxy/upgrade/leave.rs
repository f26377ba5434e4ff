//! The end of a worker, as its WebSockets' clients see it: each is told that we are going away (RFC 6455 section 7.4.1), between two frames, and not all in one
//! second, since all of them come back. What they answer reaches the backend, which is thereby told, too.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::{leave::OpenStream, worker::Worker},
    frames::Frames,
};

/// `Close` with the status 1001, as servers send it.
const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xe9];

/// A tunnel that is counted, for as long as it lives.
pub(super) struct OpenTunnel(OpenStream);

impl OpenTunnel {
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        worker.count(|numbers| numbers.tunnels_open += 1);
        Self(OpenStream::new(worker))
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.worker().count(|numbers| numbers.tunnels_open -= 1);
    }
}

/// The backend's end of a tunnel. When it is time to leave, its next frame is our farewell, and then it ends.
pub(super) struct BackendSide<'a, S> {
    stream: S,
    tunnel: &'a OpenTunnel,
    frames: Frames,
    ended: bool,
}

impl<'a, S> BackendSide<'a, S> {
    /// `read` came from it already.
    pub(super) fn new(stream: S, tunnel: &'a OpenTunnel, read: &[u8]) -> Self {
        let mut frames = Frames::default();
        frames.feed(read);
        Self { stream, tunnel, frames, ended: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BackendSide<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.tunnel.0.poll_leave(cx).is_pending() || this.frames.is_closing() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else if this.frames.is_between() && buf.remaining() >= GOING_AWAY.len() {
            buf.put_slice(GOING_AWAY);
            this.ended = true;
            return Poll::Ready(Ok(()));
        } else {
            // No further than to the end of this frame.
            let most = this.frames.rest().min(buf.remaining());
            let mut piece = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
            let count = piece.filled().len();
            buf.advance(count);
        }
        this.frames.feed(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BackendSide<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
