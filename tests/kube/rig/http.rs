//! A plain HTTP/1.1 client: one request on a connection of its own, or many on one that is kept. No retries: an error is what a test looks for.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long one request may take. Beyond: an error.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// `X-Nodegate-Reason`, of Nodegate's own answers.
    pub reason: Option<String>,
    pub retry_after: Option<String>,
    pub body: String,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {:?}", self.status, self.reason.as_deref().unwrap_or("-"), self.body)
    }
}

/// GET on a connection of its own. Errors are told in words.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> Result<Answer, String> {
    Client::new(address).get(host, path).await
}

/// A client that keeps its connection between requests.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Connects at the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// GET. After an error the next request has a new connection.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer, String> {
        self.send(Method::GET, host, path, Bytes::new()).await
    }

    /// POST of a JSON body.
    pub async fn post(&mut self, host: &str, path: &str, body: String) -> Result<Answer, String> {
        self.send(Method::POST, host, path, Bytes::from(body)).await
    }

    async fn send(&mut self, method: Method, host: &str, path: &str, body: Bytes) -> Result<Answer, String> {
        let request =
            Request::builder().method(method).uri(path).header("host", host).body(Full::new(body)).map_err(|error| error.to_string())?;
        let answer = timeout(REQUEST_PATIENCE, self.exchange(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("nothing within {REQUEST_PATIENCE:?}")));
        if answer.is_err() {
            self.connection = None;
        }
        answer.map_err(|error| format!("GET {host}{path}: {error}"))
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(self.address).await?),
        };
        connection.ready().await.map_err(|error| format!("kept connection: {error:?}"))?;
        let response = connection.send_request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (reason, retry_after) = (header("x-nodegate-reason"), header("retry-after"));
        let is_last = header("connection").is_some_and(|value| value == "close");
        let body = response.into_body().collect().await.map_err(|error| format!("body: {error:?}"))?.to_bytes();
        if is_last {
            self.connection = None;
        }
        Ok(Answer { status, reason, retry_after, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("{error:?}"))?;
    tokio::spawn(connection);
    Ok(sender)
}
