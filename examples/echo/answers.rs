//! The well-behaved answers. Any path that is not named in [`answer`] gets a JSON account of the request.

use std::{convert::Infallible, fmt::Write as _, str::FromStr, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRAILER},
};
use serde_json::{Value, json};

use crate::{Context, raw, websocket};

/// The one body type of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How much of a request's body the JSON account quotes.
const QUOTED_BYTES: usize = 1024;

/// Answers one request.
pub(crate) async fn answer(request: Request<Incoming>, context: &Context) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = Query(request.uri().query().unwrap_or_default().to_owned());
    if let Some(script) = path.strip_prefix("/broken/").or((path == "/100").then_some("100")) {
        return broken(script, context).await;
    }
    if let Some(status) = path.strip_prefix("/status/") {
        return match status.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok()).filter(|status| status.as_u16() >= 200) {
            Some(status) => text(status, &format!("{status}\n")),
            None => text(StatusCode::BAD_REQUEST, "/status/NNN takes a final status code\n"),
        };
    }
    match path.as_str() {
        // ?n=BYTES: that many bytes, with a Content-Length.
        "/bytes" => bytes(query.number("n", 0)),
        // Says that it got the request before it has read the body.
        "/early" => text(StatusCode::OK, "early\n"),
        // ?events=N&delay_ms=MS: server-sent events.
        "/sse" => server_sent_events(query.number("events", 10), query.delay()),
        // ?ms=MS: waits, then answers as any other path.
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(query.number("ms", 1000))).await;
            account(request, context).await
        }
        // ?chunks=N&size=BYTES&delay_ms=MS: a chunked body.
        "/stream" => chunks(query.number("chunks", 10), query.number("size", 1024), query.delay()),
        // A chunked body with trailers behind it.
        "/trailers" => trailers(),
        // Reads the whole body and says how long it was.
        "/upload" => upload(request.into_body()).await,
        "/ws" => websocket::upgrade(request, context.stopping.clone()),
        _ => account(request, context).await,
    }
}

/// A short plain text.
pub(crate) fn text(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync();
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn broken(name: &str, context: &Context) -> Response<Body> {
    match raw::SCRIPTS.iter().find(|script| script.name == name) {
        Some(script) if context.takeover.send(script).await.is_ok() => std::future::pending().await,
        _ => {
            let mut known = String::from("/broken/NAME knows:");
            for script in raw::SCRIPTS {
                _ = write!(known, " {}", script.name);
            }
            text(StatusCode::NOT_FOUND, &(known + "\n"))
        }
    }
}

/// The JSON account: everything that reached this backend, headers in their order.
async fn account(request: Request<Incoming>, context: &Context) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let received = Received::read(body, QUOTED_BYTES).await;
    let account = [
        ("backend", json!(&*context.name)),
        ("peer", json!(context.peer.to_string())),
        ("method", json!(parts.method.as_str())),
        ("uri", json!(parts.uri.to_string())),
        ("version", json!(format!("{:?}", parts.version))),
        ("headers", pairs(&parts.headers)),
        ("body_length", json!(received.length)),
        ("body_complete", json!(received.complete)),
        ("body", json!(String::from_utf8_lossy(&received.start))),
        ("trailers", received.trailers.as_ref().map(pairs).into()),
    ];
    let body = Full::new(Bytes::from(lines(&account))).boxed_unsync();
    typed(StatusCode::OK, "application/json", body)
}

/// JSON for the eye: one field a line, one header a line.
fn lines(fields: &[(&str, Value)]) -> String {
    let field = |(name, value): &(&str, Value)| match value.as_array() {
        Some(items) => {
            let items: Vec<_> = items.iter().map(|item| format!("    {item}")).collect();
            format!("  \"{name}\": [\n{}\n  ]", items.join(",\n"))
        }
        None => format!("  \"{name}\": {value}"),
    };
    let fields: Vec<_> = fields.iter().map(field).collect();
    format!("{{\n{}\n}}\n", fields.join(",\n"))
}

async fn upload(body: Incoming) -> Response<Body> {
    let received = Received::read(body, 0).await;
    let status = if received.complete { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    text(status, &format!("{}\n", received.length))
}

fn pairs(headers: &HeaderMap) -> Value {
    headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect()
}

/// A request's body, counted and mostly thrown away.
#[derive(Default)]
struct Received {
    length: u64,
    start: Vec<u8>,
    trailers: Option<HeaderMap>,
    complete: bool,
}

impl Received {
    async fn read(mut body: Incoming, keep: usize) -> Self {
        let mut received = Self::default();
        loop {
            match body.frame().await {
                None => {
                    received.complete = true;
                    return received;
                }
                Some(Err(_broken_off)) => return received,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        received.length += data.len() as u64;
                        let room = keep.saturating_sub(received.start.len());
                        received.start.extend(data.iter().take(room));
                    }
                    Err(frame) => received.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }
}

fn bytes(length: u64) -> Response<Body> {
    /// Large enough that counting chunks costs nothing, small enough not to matter in memory.
    static BLOCK: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let blocks = stream::unfold(length, |left| async move {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK.len());
        let block = Bytes::from_static(BLOCK.get(..take).filter(|block| !block.is_empty())?);
        Some((Ok(Frame::data(block)), left - take as u64))
    });
    let mut response = typed(StatusCode::OK, "application/octet-stream", StreamBody::new(blocks).boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn chunks(count: u64, size: usize, delay: Duration) -> Response<Body> {
    let chunk = Bytes::from(vec![b'x'; size]);
    let frames = stream::unfold(0, move |sent| {
        let chunk = chunk.clone();
        async move {
            pause(sent, count, delay).await?;
            Some((Ok(Frame::data(chunk)), sent + 1))
        }
    });
    typed(StatusCode::OK, "application/octet-stream", StreamBody::new(frames).boxed_unsync())
}

fn server_sent_events(count: u64, delay: Duration) -> Response<Body> {
    let frames = stream::unfold(0, move |sent| async move {
        pause(sent, count, delay).await?;
        Some((Ok(Frame::data(Bytes::from(format!("id: {sent}\ndata: event {sent}\n\n")))), sent + 1))
    });
    let mut response = typed(StatusCode::OK, "text/event-stream", StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn trailers() -> Response<Body> {
    let name = HeaderName::from_static("x-checksum");
    let trailers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("42"))]);
    let frames = [Ok(Frame::data(Bytes::from_static(b"before the trailers\n"))), Ok(Frame::trailers(trailers))];
    let mut response = typed(StatusCode::OK, "text/plain", StreamBody::new(stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert(TRAILER, name.into());
    response
}

/// Waits before every frame but the first; `None` after the last.
async fn pause(sent: u64, count: u64, delay: Duration) -> Option<()> {
    if sent > 0 && sent < count && !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    (sent < count).then_some(())
}

/// The part of the URI behind `?`.
struct Query(String);

impl Query {
    /// The value of `name` as a number, or `default` where it is missing or no number.
    fn number<T: FromStr>(&self, name: &str, default: T) -> T {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(default)
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.number("delay_ms", 0))
    }
}
