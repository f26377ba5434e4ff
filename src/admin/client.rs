//! A client of the admin listener, for `nodegate routes --admin` and `explain --admin`.

use std::error::Error;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{net::TcpStream, time};

use crate::config::limits;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `--admin` isn't the URL of a listener.
    #[error("--admin must be a URL such as http://127.0.0.1:9080, not {0:?}")]
    Url(String),
    /// Nobody there, or nobody who speaks HTTP.
    #[error("can't ask {url}: {why}")]
    Unreachable {
        /// Whom.
        url: String,
        /// The chain of causes.
        why: String,
    },
    /// An answer other than 200.
    #[error("{text} ({url} answered {status})")]
    Refused {
        /// Who.
        url: String,
        /// The answer's status.
        status: StatusCode,
        /// The answer's text.
        text: String,
    },
}

/// Fetches a page of the listener at `base` (`http://` may be left out). `query` is given decoded.
pub async fn get(base: &str, page: &str, query: &[(&str, &str)]) -> Result<String, ClientError> {
    let bad_url = || ClientError::Url(base.into());
    let url = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
    let url: Uri = url.parse().map_err(|_| bad_url())?;
    let (Some("http"), Some(authority)) = (url.scheme_str(), url.authority()) else { return Err(bad_url()) };
    let mut target = format!("{}{page}", url.path().trim_end_matches('/'));
    for (i, (key, value)) in query.iter().enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        target.push_str(key);
        target.push('=');
        target.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let request = Request::get(target).header(HOST, authority.as_str()).body(Empty::new()).map_err(|_| bad_url())?;
    let answer = time::timeout(limits::ADMIN_REQUEST_TIMEOUT, fetch(host, authority.port_u16().unwrap_or(80), request));
    let unreachable = |why: String| ClientError::Unreachable { url: base.into(), why };
    let (status, text) = match answer.await {
        Ok(answer) => answer.map_err(|error| unreachable(error.to_string()))?,
        Err(_) => return Err(unreachable(format!("no answer within {} s", limits::ADMIN_REQUEST_TIMEOUT.as_secs()))),
    };
    if status == StatusCode::OK { Ok(text) } else { Err(ClientError::Refused { url: base.into(), status, text: text.trim_end().into() }) }
}

async fn fetch(host: &str, port: u16, request: Request<Empty<Bytes>>) -> Result<(StatusCode, String), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or is dropped with the runtime.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), limits::ADMIN_ANSWER_BYTES).collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
