//! What happens to a request, from top to bottom: sanity, identity, route, headers, backend, response. Each step is a function; the decision is made as
//! data before any byte is sent.

mod checks;

use std::{borrow::Cow, convert::Infallible, rc::Rc, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, LOCATION, SEC_WEBSOCKET_KEY, SERVER, TRAILER, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use hyper::body::Incoming;

use self::checks::{check_client, check_expectation, check_fields, check_method};
use super::{
    answer::{self, Form},
    body::{ArrivingBody, Events, Progress, Receiving, RequestBody, ResponseBody, is_chunked},
    connection::{Connection, Lane},
    error::{ProxyError, Reason},
    exchange::Exchange,
    https_only,
    upgrade::{Tunnel, WebSocket},
    upstream::{self, Sent},
    worker::Worker,
};
use crate::{
    certificate::ClientTrust,
    message::{self, Authority, Scheme, Upgrade},
    route::Route,
};

/// Fields that a request gets: `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, `X-Real-IP`, `X-Request-Id`.
const ADDED_FIELDS: usize = 6;

/// Answers one request over HTTP/1. Never fails: whatever goes wrong becomes an answer.
pub(super) async fn handle_http1(lane: Rc<Lane>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    let connection = Rc::clone(lane.connection());
    let is_chunked = is_chunked(request.body());
    let Answer { mut response, body_taken } = handle(Rc::clone(&lane), request.map(ArrivingBody::Http1)).await;
    response.headers_mut().entry(DATE).or_insert_with(|| lane.worker().date());
    // With part of the request's body unread, the server closes the connection behind the response: the client is to know before it sends another. Of one in
    // chunks it reads no more than one to find its end, so that it may be all there, and unread.
    let unread = connection.has_unread_body() || (is_chunked && !body_taken);
    let ends = connection.is_last_request() || unread;
    if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Answers one request over HTTP/2. A status 101 is the backend's consent to a tunnel, which is in the lane.
pub(super) async fn handle_http2(lane: Rc<Lane>, request: Request<Receiving>) -> Response<ResponseBody> {
    let Answer { mut response, body_taken: _ } = handle(lane, request.map(ArrivingBody::Http2)).await;
    // Its framing is the protocol's matter (RFC 9113 section 8.2.2).
    response.headers_mut().remove(CONNECTION);
    *response.version_mut() = Version::HTTP_2;
    response
}

struct Answer {
    response: Response<ResponseBody>,
    /// All of the request's body went to a backend.
    body_taken: bool,
}

async fn handle(lane: Rc<Lane>, request: Request<ArrivingBody>) -> Answer {
    lane.worker().retry_budget.deposit();
    let mut exchange = Exchange::begin(lane, &request);
    let form = Form::for_request(request.version(), request.headers());
    let asked = Asked { close_delimited: request.version() < Version::HTTP_11, is_get: request.method() == Method::GET };
    let result = forward(&mut exchange, request).await;
    let body_taken = exchange.body_taken;
    let response = match result {
        Ok((sent, progress)) => respond(exchange, sent, progress, asked),
        Err(error) => refuse(exchange, &error, form),
    };
    Answer { response, body_taken }
}

async fn forward(exchange: &mut Exchange, request: Request<ArrivingBody>) -> Result<(Sent, Progress), ProxyError> {
    let (request, progress) = prepare(exchange, request)?;
    let (lane, route, trail) = exchange.sending();
    let route = route.ok_or(Reason::NoRoute)?;
    trail.routed();
    let sent = upstream::send(lane, trail, &route.backend, request, &progress).await;
    exchange.bytes_in = progress.bytes();
    exchange.body_taken = progress.is_complete();
    let sent = sent?;
    if let Some(websocket) = exchange.lane().websocket.borrow().as_ref() {
        let is_tunnel = sent.response.status() == StatusCode::SWITCHING_PROTOCOLS;
        // To the client, any success would mean that the tunnel is there (RFC 8441 section 4).
        if (is_tunnel && !websocket.is_accepted(sent.response.headers())) || sent.response.status().is_success() {
            return Err(ProxyError::new(Reason::UpstreamInvalid, "the backend hasn't understood that it is a WebSocket"));
        }
    }
    Ok((sent, progress))
}

/// Decides what becomes of a request, and makes it ready to be sent along its route.
fn prepare(exchange: &mut Exchange, request: Request<ArrivingBody>) -> Result<(Request<RequestBody>, Progress), ProxyError> {
    let lane = Rc::clone(exchange.lane());
    let (connection, worker) = (lane.connection(), lane.worker());
    let (mut head, body) = request.into_parts();

    if head.version == Version::HTTP_2 {
        check_fields(&mut head.headers, &worker.settings.limits)?;
    }
    let upgrade = check_method(&head)?;
    check_expectation(&head.headers)?;
    let authority = message::authority(head.version, &head.uri, &head.headers)
        .map_err(|error| ProxyError::caused(Reason::BadRequest, "the authority", error))?;
    let path = message::normalize(head.uri.path()).map_err(|error| ProxyError::caused(Reason::BadRequest, "the path", error))?;

    let identity = message::identify(connection.downstream(), &head.headers, &worker.settings.trust);
    exchange.client = identity.client;

    exchange.https = identity.scheme == Scheme::Https;
    let (route, vouched) = find(connection, &authority, &path)?;
    let route = exchange.route.insert(route);
    if route.policy.https_only && !exchange.https && https_only::may_redirect(worker, &path, connection.downstream(), &head.headers) {
        exchange.location = Some(https_only::location(&authority, &path, head.uri.query())?);
        return Err(Reason::HttpsOnly.into());
    }
    check_client(connection, route, vouched.as_ref(), &head.method, &path)?;

    let as_written = head.uri.path_and_query().filter(|target| matches!(path, Cow::Borrowed(_)) && target.as_str().starts_with('/'));
    if as_written.is_none() || head.uri.authority().is_some() {
        head.uri = as_written.map_or_else(|| origin_form(&head.uri, &path), |target| Ok(Uri::from(target.clone())))?;
    }
    message::strip_request(&mut head.headers);
    // At once, instead of in four steps. Later requests of the connection have this one's map.
    head.headers.reserve(ADDED_FIELDS);
    authority.set_host(&mut head.headers);
    message::set_forwarded(&mut head.headers, connection.downstream(), &identity, &authority);
    exchange.request_id = message::set_request_id(&mut head.headers, identity.peer, || new_request_id(worker));

    let body = match (upgrade, body) {
        (Upgrade::WebSocket, ArrivingBody::Http2(receiving)) => {
            // What follows isn't the request's any more, which becomes one that a backend knows (RFC 8441 section 5).
            let (websocket, key) = WebSocket::ask(receiving, worker);
            lane.websocket.replace(Some(websocket));
            head.method = Method::GET;
            // What was announced of a body, or is awaited behind one, is nobody's now: a backend would take the next request for it.
            for name in [CONTENT_LENGTH, TRAILER, EXPECT] {
                head.headers.remove(name);
            }
            head.headers.insert(SEC_WEBSOCKET_KEY, key);
            None
        }
        (_, body) => Some(body),
    };
    let is_call = message::is_grpc(head.version, &head.headers);
    let (body, progress) = body.map_or_else(|| (RequestBody::empty(), Progress::default()), |body| RequestBody::new(body, &lane, is_call));
    set_framing(&mut head.headers, &body, upgrade);
    // The client speaks whatever version it is given, and panics on some.
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    Ok((Request::from_parts(head, body), progress))
}

/// The route, and who has vouched for the client if somebody had to.
fn find(connection: &Connection, authority: &Authority, path: &str) -> Result<(Arc<Route>, Option<Arc<ClientTrust>>), ProxyError> {
    let table = connection.worker().table();
    if table.generation == 0 {
        return Err(Reason::NotReady.into());
    }
    let vouched = connection.vouched(&table.snapshot, authority.host())?;
    let route = table.snapshot.find(authority.host(), path).cloned().ok_or(Reason::NoRoute)?;
    Ok((route, vouched))
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

/// What of a request its response depends on.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Only the end of the connection ends the response's body.
    close_delimited: bool,
    is_get: bool,
}

fn respond(mut exchange: Exchange, sent: Sent, progress: Progress, asked: Asked) -> Response<ResponseBody> {
    let Sent { response, lease } = sent;
    let (mut head, body) = response.into_parts();
    exchange.responded(head.status);
    message::strip_response(&mut head.headers);
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    let lane = Rc::clone(exchange.lane());
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        message::set_websocket(&mut head.headers);
        lane.tunnel.replace(Some(Tunnel::new(lease, exchange)));
        return Response::from_parts(head, ResponseBody::empty());
    }
    if lane.worker().settings.server_header && !head.headers.contains_key(SERVER) {
        head.headers.insert(SERVER, answer::SERVER_NAME);
    }
    https_only::set_hsts(&mut head.headers, &exchange);
    let events = Events::of(asked.is_get, &head.headers, &body, lane.worker());
    Response::from_parts(head, ResponseBody::backend(body, lease, progress, exchange, events, asked.close_delimited))
}

fn refuse(mut exchange: Exchange, error: &ProxyError, form: Form) -> Response<ResponseBody> {
    let peer = exchange.lane().connection().peer();
    tracing::debug!(%peer, error = error as &dyn std::error::Error, "answered ourselves");
    exchange.answered(error.reason);
    // A client that is gone may have closed one direction only, and what it sent is no whole request (RFC 9112 section 8).
    let told = if error.reason == Reason::ClientGone { Reason::BadRequest } else { error.reason };
    let mut response = answer::answer(told, form, exchange.worker().settings.server_header);
    if let Some(location) = exchange.location.take() {
        response.headers_mut().insert(LOCATION, location);
    }
    https_only::set_hsts(response.headers_mut(), &exchange);
    response
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
