//! The end of a worker, as its WebSockets' clients see it: each is told that we are going away (RFC 6455 section 7.4.1), between two frames, and not all in one
//! second, since all of them come back. What they answer reaches the backend, which is thereby told, too.

use std::{
    cell::{Cell, RefCell},
    io,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use slab::Slab;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    super::{deadline::Deadline, worker::Worker},
    frames::Frames,
};
use crate::config::limits::TUNNEL_FAREWELL;

/// `Close` with the status 1001, as servers send it.
const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xe9];

/// The tunnels of a worker, and when it leaves.
#[derive(Default)]
pub(crate) struct Tunnels {
    open: RefCell<Slab<Rc<Deadline>>>,
    until: Cell<Option<Instant>>,
}

impl Tunnels {
    /// The worker ends at this moment, and each tunnel before.
    pub(crate) fn leave(&self, worker: &Worker, until: Instant) {
        self.until.set(Some(until));
        for (_, tunnel) in self.open.borrow().iter() {
            tunnel.arm(when(worker, until));
        }
    }
}

/// A moment for one tunnel to end.
fn when(worker: &Worker, until: Instant) -> Duration {
    let Range { start, end } = window(until.saturating_duration_since(Instant::now()));
    start + end.saturating_sub(start).mul_f64(worker.random.borrow_mut().f64())
}

/// When tunnels end, of a drain that takes this long: in its second half, so that what is short is over by itself, and with time left for an answer.
fn window(drain: Duration) -> Range<Duration> {
    let end = drain.saturating_sub(TUNNEL_FAREWELL);
    end / 2..end
}

/// A tunnel in its worker's books, for as long as it lives.
pub(super) struct OpenTunnel {
    worker: Rc<Worker>,
    key: usize,
    leave: Rc<Deadline>,
}

impl OpenTunnel {
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        let leave = Rc::new(worker.deadlines.register());
        if let Some(until) = worker.tunnels.until.get() {
            leave.arm(when(worker, until));
        }
        let key = worker.tunnels.open.borrow_mut().insert(Rc::clone(&leave));
        worker.count(|numbers| numbers.tunnels_open += 1);
        Self { worker: Rc::clone(worker), key, leave }
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.worker.tunnels.open.borrow_mut().try_remove(self.key);
        self.worker.count(|numbers| numbers.tunnels_open -= 1);
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
        if this.tunnel.leave.poll(cx).is_pending() || this.frames.is_closing() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_end_in_the_second_half_of_a_drain_and_not_at_its_end() {
        let seconds = Duration::from_secs;
        for (drain, expected) in [(0, 0..0), (1, 0..0), (2, 0..0), (4, 1..2), (26, 12..24), (602, 300..600)] {
            let Range { start, end } = window(seconds(drain));
            assert_eq!((start, end), (seconds(expected.start), seconds(expected.end)), "of {drain} s");
        }
    }
}
