//! A backend's socket as the HTTP client sees it, with TLS or without: one that remembers what happened to it, and lets a response be read after a write has failed.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::certificate::ALPN_HTTP2;

/// What a socket has seen.
#[derive(Default)]
pub(super) struct Signs {
    /// The backend has said something since this was last cleared.
    pub(super) heard: Cell<bool>,
    /// The backend takes no more.
    pub(super) broken: Cell<bool>,
    /// How long what we send may stay unacknowledged: from the next write on. `None`: as long as the kernel likes.
    pub(super) acknowledged_within: Cell<Option<Duration>>,
}

/// A connection to a backend, with TLS or without.
pub(crate) enum BackendStream {
    Plain(TcpStream),
    /// Its handshake is done. On its own, since it is larger by far.
    Tls(Box<TlsStream<TcpStream>>),
}

impl BackendStream {
    /// Whether the backend has chosen HTTP/2 in its handshake.
    pub(super) fn has_chosen_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for BackendStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for BackendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection that remembers.
pub(crate) struct Socket {
    stream: BackendStream,
    /// Nothing more comes from the backend.
    ended: bool,
    signs: Rc<Signs>,
    /// What the kernel was told of [`Signs::acknowledged_within`].
    acknowledged_within: Option<Duration>,
}

impl Socket {
    pub(super) fn new(stream: BackendStream) -> (Self, Rc<Signs>) {
        let signs = Rc::new(Signs::default());
        (Self { stream, ended: false, signs: Rc::clone(&signs), acknowledged_within: None }, signs)
    }

    /// For a tunnel: what follows a switch of protocols may wait for a peer that takes its time.
    pub(super) fn switched(mut self) -> Self {
        self.signs.acknowledged_within.set(None);
        self.heed_signs();
        self
    }

    /// `TCP_USER_TIMEOUT` (RFC 5482): without it, a host that vanished is noticed only by the timeout for the first byte, since the kernel goes on
    /// sending for a quarter of an hour. The kernel counts a peer that reads nothing in the same way.
    fn heed_signs(&mut self) {
        let wanted = self.signs.acknowledged_within.get();
        if wanted != self.acknowledged_within {
            // A kernel without it is as patient as before.
            let _ = SockRef::from(self.stream.tcp()).set_tcp_user_timeout(wanted);
            self.acknowledged_within = wanted;
        }
    }

    /// A backend may answer before it has read the whole request, and close: our writes fail then, while its answer waits to be read, or the last words of a
    /// tunnel. Whoever writes would give up at the first failure, so it sees a success, and the reading side says what came of it.
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
        } else if result.is_ready() {
            this.ended = true;
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.heed_signs();
        let result = match this.signs.broken.get() {
            false => Pin::new(&mut this.stream).poll_write(cx, buf),
            true if this.ended => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            true => Poll::Ready(Ok(buf.len())),
        };
        this.outlive(result, buf.len())
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let [single] = bufs {
            return self.poll_write(cx, single);
        }
        let this = self.get_mut();
        this.heed_signs();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        let result =
            if this.signs.broken.get() { Poll::Ready(Ok(length)) } else { Pin::new(&mut this.stream).poll_write_vectored(cx, bufs) };
        this.outlive(result, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // With TLS, what was written may be on our side still.
        let result = if this.signs.broken.get() { Poll::Ready(Ok(())) } else { Pin::new(&mut this.stream).poll_flush(cx) };
        this.outlive(result.map_ok(|()| 0), 0).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.signs.broken.get() { Poll::Ready(Ok(())) } else { Pin::new(&mut this.stream).poll_shutdown(cx) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_kernel_is_told_how_long_to_wait_for_acknowledgements() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut socket, signs) = Socket::new(BackendStream::Plain(stream));
        let told = |stream: &BackendStream| SockRef::from(stream.tcp()).tcp_user_timeout().unwrap();
        for wanted in [Some(Duration::from_secs(3)), None, Some(Duration::from_secs(2))] {
            signs.acknowledged_within.set(wanted);
            socket.write_all(b"x").await.unwrap();
            assert_eq!(told(&socket.stream), wanted);
        }
        assert_eq!(told(&socket.switched().stream), None, "after a switch of protocols");
    }
}
