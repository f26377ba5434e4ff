//! An HTTP/2 client over TLS, as browsers are: it offers both versions, and the server chooses.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest, handshake},
};
use hyper::{Request, Response, body::Bytes};
use tokio::time::timeout;

use crate::{
    http::Answer,
    https::{self, PATIENCE},
};

/// One connection.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Bytes>,
}

/// A request that was begun.
#[derive(Debug)]
pub struct Stream {
    pub request: SendStream<Bytes>,
    pub response: ResponseFuture,
}

impl Client {
    /// Connects for `host`; an error if the server would rather have another version.
    pub async fn connect(address: SocketAddr, host: &'static str) -> anyhow::Result<Self> {
        let secured = soon("connection", https::connect(None, address, host, &["h2", "http/1.1"])).await?;
        let chosen = secured.get_ref().1.alpn_protocol().map(String::from_utf8_lossy);
        ensure!(chosen.as_deref() == Some("h2"), "{address}: of HTTP/2 and HTTP/1.1 it chose {chosen:?}");
        let (sender, driver) = soon("preface", handshake(secured)).await.with_context(|| format!("{address}: no HTTP/2"))?;
        tokio::spawn(driver);
        Ok(Self { sender })
    }

    /// Sends the head of a request.
    pub async fn begin(&mut self, request: Request<()>) -> anyhow::Result<Stream> {
        self.send(request, false).await
    }

    /// A whole request without a body.
    pub async fn get(&mut self, uri: &str) -> anyhow::Result<Answer> {
        let stream = self.send(Request::get(uri).body(())?, true).await?;
        answer(stream.response).await.with_context(|| uri.to_owned())
    }

    async fn send(&mut self, request: Request<()>, ends: bool) -> anyhow::Result<Stream> {
        let mut sender = soon("room for a request", self.sender.clone().ready()).await?;
        let (response, request) = sender.send_request(request, ends)?;
        Ok(Stream { request, response })
    }
}

/// The head of a response.
pub async fn head(response: ResponseFuture) -> anyhow::Result<Response<RecvStream>> {
    soon("head", response).await
}

/// A whole response.
pub async fn answer(response: ResponseFuture) -> anyhow::Result<Answer> {
    let (parts, mut body) = head(response).await?.into_parts();
    let mut all = Vec::new();
    while let Some(piece) = piece(&mut body).await? {
        all.extend_from_slice(&piece);
    }
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8_lossy(&all).into_owned() })
}

/// The next piece of a response's body.
pub async fn piece(body: &mut RecvStream) -> anyhow::Result<Option<Bytes>> {
    let Some(piece) = soon("piece of a body", async { body.data().await.transpose() }).await? else { return Ok(None) };
    body.flow_control().release_capacity(piece.len())?;
    Ok(Some(piece))
}

/// Waits, but not for ever.
async fn soon<T, E: Into<anyhow::Error>>(what: &str, work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T> {
    timeout(PATIENCE, work).await.with_context(|| format!("no {what} within {PATIENCE:?}"))?.map_err(Into::into)
}
