//! What happens to a request, from top to bottom: sanity, identity, route, headers, backend, response. Each step is a function; the decision is made as
//! data before any byte is sent.

use std::{borrow::Cow, convert::Infallible, rc::Rc, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, EXPECT, SERVER, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    answer::{self, Form},
    body::{Progress, RequestBody, ResponseBody},
    connection::Connection,
    error::{ProxyError, Reason},
    exchange::Exchange,
    upgrade::Tunnel,
    upstream::{self, Sent},
    worker::Worker,
};
use crate::{
    message::{self, Authority, Upgrade},
    route::Route,
};

/// Fields that a request gets: `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, `X-Real-IP`, `X-Request-Id`.
const ADDED_FIELDS: usize = 6;

/// Answers one request. Never fails: whatever goes wrong becomes an answer.
pub(super) async fn handle(connection: Rc<Connection>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    connection.worker().retry_budget.deposit();
    let mut exchange = Exchange::begin(Rc::clone(&connection), &request);
    let form = Form::of(request.headers());
    let close_delimited = request.version() < Version::HTTP_11;
    let is_chunked = is_chunked(request.body());
    let result = forward(&mut exchange, request).await;
    // With part of the request's body unread, the server closes the connection behind the response: the client is to know before it sends another. Of one in
    // chunks it reads no more than one to find its end, so that it may be all there, and unread.
    let unread = connection.has_unread_body() || (is_chunked && !exchange.body_taken);
    let mut response = match result {
        Ok((sent, progress)) => respond(exchange, sent, progress, close_delimited),
        Err(error) => refuse(exchange, &error, form),
    };
    let ends = connection.is_last_request() || unread;
    if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn forward(exchange: &mut Exchange, request: Request<Incoming>) -> Result<(Sent, Progress), ProxyError> {
    let (request, progress) = prepare(exchange, request)?;
    let (connection, route, trail) = exchange.sending();
    let route = route.ok_or(Reason::NoRoute)?;
    trail.routed();
    let sent = upstream::send(connection, trail, &route.backend, request, &progress).await;
    exchange.bytes_in = progress.bytes();
    exchange.body_taken = progress.is_complete();
    Ok((sent?, progress))
}

/// Decides what becomes of a request, and makes it ready to be sent along its route.
fn prepare(exchange: &mut Exchange, request: Request<Incoming>) -> Result<(Request<RequestBody>, Progress), ProxyError> {
    let connection = Rc::clone(exchange.connection());
    let worker = connection.worker();
    let (mut head, body) = request.into_parts();

    check_method(&head.method)?;
    check_expectation(&head.headers)?;
    let authority = message::authority(head.version, &head.uri, &head.headers)
        .map_err(|error| ProxyError::caused(Reason::BadRequest, "the authority", error))?;
    let path = message::normalize(head.uri.path()).map_err(|error| ProxyError::caused(Reason::BadRequest, "the path", error))?;

    let identity = message::identify(connection.downstream(), &head.headers, &worker.settings.trust);
    exchange.client = identity.client;

    exchange.route = Some(find(&connection, &authority, &path)?);

    let as_written = matches!(path, Cow::Borrowed(_)) && head.uri.authority().is_none();
    if !as_written {
        head.uri = origin_form(&head.uri, &path)?;
    }
    let upgrade = message::wants_upgrade(&head.method, head.version, &head.headers);
    message::strip_request(&mut head.headers);
    // At once, instead of in four steps. Later requests of the connection have this one's map.
    head.headers.reserve(ADDED_FIELDS);
    authority.set_host(&mut head.headers);
    message::set_forwarded(&mut head.headers, connection.downstream(), &identity, &authority);
    exchange.request_id = message::set_request_id(&mut head.headers, identity.peer, || new_request_id(worker));

    let (body, progress) = RequestBody::new(body, &connection);
    set_framing(&mut head.headers, &body, upgrade);
    // The client speaks whatever version it is given, and panics on some.
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    Ok((Request::from_parts(head, body), progress))
}

fn check_method(method: &Method) -> Result<(), ProxyError> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Reason::Method.into());
    }
    Ok(())
}

/// RFC 9110 section 10.1.1. The server sends `100 Continue` when the backend's connection first asks for the body.
fn check_expectation(headers: &HeaderMap) -> Result<(), ProxyError> {
    if headers.get_all(EXPECT).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    Err(Reason::Expectation.into())
}

fn find(connection: &Connection, authority: &Authority, path: &str) -> Result<Arc<Route>, ProxyError> {
    let table = connection.worker().table();
    if table.generation == 0 {
        return Err(Reason::NotReady.into());
    }
    if connection.is_misdirected(&table.snapshot, authority.host()) {
        return Err(Reason::Misdirected.into());
    }
    table.snapshot.find(authority.host(), path).cloned().ok_or_else(|| Reason::NoRoute.into())
}

/// What is forwarded is what was matched: the normalised path, in origin form.
fn origin_form(uri: &Uri, path: &str) -> Result<Uri, ProxyError> {
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let path_and_query = path_and_query.map_err(|error| ProxyError::caused(Reason::BadRequest, "the path", error))?;
    Ok(Uri::from(path_and_query))
}

/// Whether there is a body whose length nobody has told.
fn is_chunked(body: &impl Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact().is_none()
}

/// The hop-by-hop headers that are ours to set on the way to the backend.
fn set_framing(headers: &mut HeaderMap, body: &RequestBody, upgrade: Upgrade) {
    // The server answers the expectation itself.
    headers.remove(EXPECT);
    if is_chunked(body) {
        // Without it, the client would drop the body of a GET.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if upgrade == Upgrade::WebSocket {
        message::set_websocket(headers);
    }
}

fn respond(mut exchange: Exchange, sent: Sent, progress: Progress, close_delimited: bool) -> Response<ResponseBody> {
    let Sent { response, lease } = sent;
    let (mut head, body) = response.into_parts();
    exchange.responded(head.status);
    message::strip_response(&mut head.headers);
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    let connection = Rc::clone(exchange.connection());
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        message::set_websocket(&mut head.headers);
        connection.tunnel.replace(Some(Tunnel::new(lease, exchange)));
        return Response::from_parts(head, ResponseBody::empty());
    }
    if connection.worker().settings.server_header && !head.headers.contains_key(SERVER) {
        head.headers.insert(SERVER, answer::SERVER_NAME);
    }
    Response::from_parts(head, ResponseBody::backend(body, lease, progress, exchange, close_delimited))
}

fn refuse(mut exchange: Exchange, error: &ProxyError, form: Form) -> Response<ResponseBody> {
    let peer = exchange.connection().peer();
    tracing::debug!(%peer, error = error as &dyn std::error::Error, "answered ourselves");
    exchange.answered(error.reason);
    // A client that is gone may have closed one direction only, and what it sent is no whole request (RFC 9112 section 8).
    let told = if error.reason == Reason::ClientGone { Reason::BadRequest } else { error.reason };
    answer::answer(told, form, exchange.connection().worker().settings.server_header)
}

/// 128 random bits, as nginx's `$request_id`.
fn new_request_id(worker: &Worker) -> HeaderValue {
    let mut bits = worker.random.borrow_mut().u128(..);
    let text: [u8; 32] = std::array::from_fn(|_| {
        let digit = (bits & 15) as u8;
        bits >>= 4;
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    });
    // Hexadecimal digits are valid in a header.
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}
