//! An HTTP/1.1 client that connects from whatever network namespace its thread is in.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::{
    HeaderMap, Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpSocket, time::timeout};

/// For a connection, and then again for a whole answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// The `--name` of the sample backend whose account of the request this is.
    pub fn backend(&self) -> Option<String> {
        let account: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        account.get("backend")?.as_str().map(str::to_owned)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?}", self.status, self.body.trim_end())
    }
}

/// A connection that is kept, and made again where it ended.
#[derive(Debug)]
pub struct Client {
    source: IpAddr,
    address: SocketAddr,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    /// Connects with the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self::bound_to(Ipv4Addr::UNSPECIFIED.into(), address)
    }

    /// As [`Self::new`], from this one of several addresses.
    pub fn bound_to(source: IpAddr, address: SocketAddr) -> Self {
        Self { source, address, connection: None }
    }

    /// One request, with these header fields besides `Host`.
    pub async fn get(&mut self, host: &str, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut request = Request::get(path).header("host", host);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => connect(self.source, self.address).await?,
        };
        let answer = timeout(PATIENCE, exchange(&mut connection, request.body(Empty::new())?)).await;
        let answer = answer.with_context(|| format!("{}: no whole answer within {PATIENCE:?}", self.address))??;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// One request on a connection of its own.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    Client::new(address).get(host, path, &[]).await
}

async fn connect(source: IpAddr, address: SocketAddr) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let socket = TcpSocket::new_v4()?;
    if !source.is_unspecified() {
        socket.bind((source, 0).into())?;
    }
    let stream = timeout(PATIENCE, socket.connect(address)).await;
    let stream = stream.with_context(|| format!("{address}: no connection within {PATIENCE:?}"))?;
    let stream = stream.with_context(|| format!("{address}: no connection"))?;
    let (connection, driver) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(connection)
}

pub async fn exchange(connection: &mut SendRequest<Empty<Bytes>>, request: Request<Empty<Bytes>>) -> anyhow::Result<Answer> {
    connection.ready().await?;
    let (parts, body) = connection.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() })
}
