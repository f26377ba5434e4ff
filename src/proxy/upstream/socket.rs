//! A backend's socket as the HTTP client sees it: one that remembers what happened to it, and lets a response be read after a write has failed.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What a socket has seen.
#[derive(Default)]
pub(super) struct Signs {
    /// The backend has said something since this was last cleared.
    pub(super) heard: Cell<bool>,
    /// The backend takes no more.
    pub(super) broken: Cell<bool>,
}

/// A connection to a backend.
pub(super) struct Socket {
    stream: TcpStream,
    signs: Rc<Signs>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> (Self, Rc<Signs>) {
        let signs = Rc::new(Signs::default());
        (Self { stream, signs: Rc::clone(&signs) }, signs)
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// A backend may answer before it has read the whole request, and close: our writes fail then, while its answer waits to be read. The client would give
    /// up at the first failed write, so it sees a success, and the reading side says what came of it.
    fn outlive(&self, result: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(error)) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.signs.broken.set(true);
                Poll::Ready(Ok(length))
            }
            result => result,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.signs.heard.set(true);
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = if this.signs.broken.get() { Poll::Ready(Ok(buf.len())) } else { Pin::new(&mut this.stream).poll_write(cx, buf) };
        this.outlive(result, buf.len())
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let [single] = bufs {
            return self.poll_write(cx, single);
        }
        let this = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        let result =
            if this.signs.broken.get() { Poll::Ready(Ok(length)) } else { Pin::new(&mut this.stream).poll_write_vectored(cx, bufs) };
        this.outlive(result, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
