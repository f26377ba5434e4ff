//! Tunnels: after a backend's `101 Switching Protocols`, bytes pass in both directions as they come, until one side has closed and the other has seen it.

mod frames;
mod leave;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_ACCEPT};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};

use self::leave::{BackendSide, OpenTunnel};
use super::{
    body::Receiving,
    connection::Lane,
    exchange::Exchange,
    upstream::{Lease, Upgraded},
    worker::Worker,
};
use crate::config::limits::TUNNEL_BUFFER_BYTES;

/// What a connection, or a stream of one, becomes when the backend has switched protocols.
pub(crate) struct Tunnel {
    lease: Lease,
    exchange: Exchange,
}

impl Tunnel {
    pub(crate) fn new(lease: Lease, exchange: Exchange) -> Self {
        Self { lease, exchange }
    }

    /// Runs until both sides have closed, or neither has sent anything for the tunnel's idle timeout. `read` came from the client already.
    pub(crate) async fn run(self, client: impl AsyncRead + AsyncWrite + Unpin, read: Bytes) {
        let Self { lease, mut exchange } = self;
        let Some(Upgraded { stream, read: answered, open: _counted }) = lease.upgraded().await else { return };
        let open = OpenTunnel::new(exchange.worker());
        let lane = Rc::clone(exchange.lane());
        let mut client = ClientSide::new(client, &lane);
        let mut stream = BackendSide::new(stream, &open, &answered);
        let copied = async {
            stream.write_all(&read).await?;
            client.write_all(&answered).await?;
            copy_bidirectional_with_sizes(&mut client, &mut stream, TUNNEL_BUFFER_BYTES, TUNNEL_BUFFER_BYTES).await
        };
        // A direction that has ended, or is stuck, is polled no more: only from here can both be ended.
        let copied = tokio::select! {
            biased;
            copied = copied => copied,
            () = poll_fn(|cx| lane.waiting.poll(cx)) => {
                lane.worker().count(|numbers| numbers.tunnel_timeouts += 1);
                Err(io::ErrorKind::TimedOut.into())
            }
        };
        if let Err(error) = copied {
            tracing::debug!(%error, "tunnel ended");
        }
        (exchange.bytes_in, exchange.bytes_out) = (client.received, client.sent);
    }
}

/// A WebSocket that was asked for over HTTP/2, whose clients leave out what HTTP/1.1 needs to begin one (RFC 8441 section 5).
pub(crate) struct WebSocket {
    /// What comes from the client.
    pub(crate) receiving: Receiving,
    /// What the backend is to make of our key.
    accept: HeaderValue,
}

impl WebSocket {
    /// With a key of our own (RFC 6455 section 4.1), which is returned.
    pub(crate) fn ask(receiving: Receiving, worker: &Worker) -> (Self, HeaderValue) {
        let key = BASE64.encode(&worker.random.borrow_mut().u128(..).to_be_bytes());
        let accept = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
        // Base64 is valid in a header.
        let value = |text| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        (Self { receiving, accept: value(BASE64.encode(accept.as_ref())) }, value(key))
    }

    /// Whether whoever answers has understood that it is a WebSocket.
    pub(crate) fn is_accepted(&self, headers: &HeaderMap) -> bool {
        headers.get(SEC_WEBSOCKET_ACCEPT) == Some(&self.accept)
    }
}

/// The client's end of a tunnel, which lives as long as either direction moves.
struct ClientSide<'a, C> {
    client: C,
    lane: &'a Lane,
    received: u64,
    sent: u64,
}

impl<'a, C> ClientSide<'a, C> {
    fn new(client: C, lane: &'a Lane) -> Self {
        let side = Self { client, lane, received: 0, sent: 0 };
        side.moved();
        side
    }

    fn moved(&self) {
        self.lane.waiting.arm(self.lane.worker().settings.limits.tunnel_idle_timeout);
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for ClientSide<'_, C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut this.client).poll_read(cx, buf));
        this.received += (buf.filled().len() - before) as u64;
        this.moved();
        Poll::Ready(result)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ClientSide<'_, C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.client).poll_write(cx, buf))?;
        this.sent += written as u64;
        this.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_shutdown(cx)
    }
}
