//! A stream of HTTP/2 that has become a tunnel, as bytes in both directions (RFC 8441 section 5).

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::SendStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::{body::Receiving, deadline::Deadline},
    shared::Shared,
};

/// See above.
pub(super) struct Duplex {
    receiving: Receiving,
    /// What came last, as far as nobody has read it.
    read: Bytes,
    sending: Rc<RefCell<SendStream<Bytes>>>,
    shared: Rc<Shared>,
    /// For a client that takes nothing.
    stall: Deadline,
}

impl Duplex {
    pub(super) fn new(receiving: Receiving, sending: Rc<RefCell<SendStream<Bytes>>>, shared: &Rc<Shared>) -> Self {
        let stall = shared.connection.worker().deadlines.register();
        Self { receiving, read: Bytes::new(), sending, shared: Rc::clone(shared), stall }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read.is_empty() {
            match ready!(this.receiving.poll_data(cx)) {
                Ok(Some(data)) => this.read = data,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = this.read.len().min(buf.remaining());
        buf.put_slice(this.read.get(..count).unwrap_or_default());
        this.read.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut sending = this.sending.borrow_mut();
        sending.reserve_capacity(buf.len());
        let mut room = sending.capacity();
        while room == 0 {
            match sending.poll_capacity(cx) {
                Poll::Ready(Some(Ok(more))) => room = more,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => {
                    let worker = this.shared.connection.worker();
                    this.stall.arm_once(worker.settings.limits.write_stall_timeout);
                    ready!(this.stall.poll(cx));
                    worker.count(|numbers| numbers.write_stalls += 1);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        this.stall.disarm();
        let piece = buf.get(..room.min(buf.len())).unwrap_or_default();
        this.shared.earn_pieces(piece.len());
        sending.send_data(Bytes::copy_from_slice(piece), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever drives the connection does.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().sending.borrow_mut().send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
