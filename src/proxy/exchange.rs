//! One request's record: gathered while it runs, logged and counted exactly once when it ends, however it ends.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderValue, Method, Request, StatusCode, Version,
    header::{HOST, USER_AGENT},
    uri::PathAndQuery,
};
use tokio::time::Instant;

use super::{
    connection::{Connection, Lane},
    error::Reason,
    worker::Worker,
};
use crate::{access_log::Record, route::Route};

/// A request under way. Dropped before it has a status, it counts as given up by its client.
pub(crate) struct Exchange {
    lane: Rc<Lane>,
    time: SystemTime,
    started: Instant,
    details: Option<Details>,
    pub(crate) client: IpAddr,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) trail: Trail,
    pub(crate) request_id: HeaderValue,
    /// Where a redirect leads.
    pub(crate) location: Option<HeaderValue>,
    /// The client has come over HTTPS, as far as that can be told.
    pub(crate) https: bool,
    pub(crate) bytes_in: u64,
    /// All of the request's body was taken by a backend's connection.
    pub(crate) body_taken: bool,
    pub(crate) bytes_out: u64,
    status: Option<StatusCode>,
    reason: Option<Reason>,
    first_byte: Option<Instant>,
}

/// The way that a request takes to its backend.
#[derive(Default)]
pub(crate) struct Trail {
    /// Where it was sent last, or couldn't be.
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) attempts: u32,
    routed: Option<Instant>,
    connected: Option<Instant>,
}

/// What only the access log wants; not gathered when it is off.
struct Details {
    method: Method,
    version: Version,
    /// Host, path and user agent behind each other: one allocation.
    text: String,
    host_end: usize,
    path_end: usize,
    has_user_agent: bool,
}

impl Exchange {
    pub(crate) fn begin<B>(lane: Rc<Lane>, request: &Request<B>) -> Self {
        let worker = lane.worker();
        worker.count(|numbers| numbers.active_requests += 1);
        let details = worker.is_logging().then(|| Details::of(request));
        Self {
            time: worker.deadlines.wall_clock(lane.head_at()),
            started: lane.head_at(),
            details,
            client: lane.connection().peer().ip(),
            route: None,
            trail: Trail::default(),
            request_id: HeaderValue::from_static(""),
            location: None,
            https: false,
            bytes_in: 0,
            body_taken: false,
            bytes_out: 0,
            status: None,
            reason: None,
            first_byte: None,
            lane,
        }
    }

    pub(crate) fn lane(&self) -> &Rc<Lane> {
        &self.lane
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        self.lane.worker()
    }

    /// What sending the request takes, without another count of references to the route, which all workers share.
    pub(crate) fn sending(&mut self) -> (&Lane, Option<&Route>, &mut Trail) {
        (&self.lane, self.route.as_deref(), &mut self.trail)
    }

    /// The head of the backend's response is there.
    pub(crate) fn responded(&mut self, status: StatusCode) {
        self.first_byte = Some(Instant::now());
        self.status = Some(status);
    }

    /// The request ends in an answer of our own.
    pub(crate) fn answered(&mut self, reason: Reason) {
        self.status = Some(reason.status());
        self.reason = Some(reason);
    }

    /// The response has begun, and can't be finished.
    pub(crate) fn broke(&mut self, reason: Reason) {
        self.reason.get_or_insert(reason);
    }

    /// The client is gone before the end of the response, unless something else broke it off.
    pub(crate) fn gave_up(&mut self) {
        self.broke(Reason::ClientGone);
    }
}

impl Trail {
    /// The decision is made; what follows is the backend's time.
    pub(crate) fn routed(&mut self) {
        self.routed = Some(Instant::now());
    }

    /// How long the backend has had so far.
    pub(crate) fn routed_for(&self, now: Instant) -> Duration {
        self.routed.map_or(Duration::ZERO, |routed| now.saturating_duration_since(routed))
    }

    /// A connection to the backend is there: an idle one at once, a new one after a while.
    pub(crate) fn connected(&mut self, upstream: SocketAddr, reused: bool) {
        self.upstream = Some(upstream);
        let at_once = self.routed.filter(|_| reused && self.attempts == 0);
        self.connected = Some(at_once.unwrap_or_else(Instant::now));
        self.attempts += 1;
    }
}

impl Details {
    fn of<B>(request: &Request<B>) -> Self {
        let value = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        let authority = || request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let (host, user_agent) = (value(HOST).or_else(authority).unwrap_or_default(), value(USER_AGENT));
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let mut text = String::with_capacity(host.len() + path.len() + user_agent.map_or(0, <[u8]>::len));
        append_text(&mut text, host);
        let host_end = text.len();
        text.push_str(path);
        let path_end = text.len();
        append_text(&mut text, user_agent.unwrap_or_default());
        let has_user_agent = user_agent.is_some();
        Self { method: request.method().clone(), version: request.version(), text, host_end, path_end, has_user_agent }
    }

    fn host(&self) -> &str {
        self.text.get(..self.host_end).unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.text.get(self.host_end..self.path_end).unwrap_or_default()
    }

    fn user_agent(&self) -> Option<&str> {
        self.text.get(self.path_end..).filter(|_| self.has_user_agent)
    }
}

/// Bytes that aren't UTF-8 are replaced.
fn append_text(text: &mut String, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(valid) => text.push_str(valid),
        Err(_) => text.push_str(&String::from_utf8_lossy(bytes)),
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = Instant::now();
        self.lane.done();
        if self.status.is_none() {
            self.answered(Reason::ClientGone);
        }
        let status = self.status.map_or(0, |status| status.as_u16());
        let reason = self.reason.map(Reason::code);
        let total = now - self.started;
        let worker = Rc::clone(self.lane.worker());
        let trail = std::mem::take(&mut self.trail);
        let upstream_time = self.first_byte.zip(trail.connected).map(|(first, sent)| first - sent);
        worker.count(|numbers| {
            numbers.active_requests -= 1;
            numbers.request(self.route.as_ref(), status, reason, total, upstream_time, self.bytes_in, self.bytes_out);
        });
        let Some(details) = &self.details else { return };
        worker.log(&Record {
            time: self.time,
            client: self.client,
            peer: self.lane.connection().peer(),
            method: details.method.as_str(),
            host: details.host(),
            path: details.path(),
            version: details.version,
            route: self.route.as_deref(),
            upstream: trail.upstream,
            status,
            reason,
            queue: trail.routed.map_or(Duration::ZERO, |routed| routed.saturating_duration_since(self.started)),
            connect: trail.connected.zip(trail.routed).map(|(connected, routed)| connected - routed),
            first_byte: upstream_time,
            total,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            attempts: trail.attempts,
            // A peer's that isn't visible ASCII was replaced by ours.
            request_id: self.request_id.to_str().unwrap_or_default(),
            user_agent: details.user_agent(),
        });
    }
}

/// Logs and counts a head that never became a request: nothing is known of it but its sender.
pub(crate) fn record_refusal(connection: &Connection, reason: Reason) {
    let worker = connection.worker();
    let status = reason.status().as_u16();
    worker.count(|numbers| numbers.request(None, status, Some(reason.code()), Duration::ZERO, None, 0, 0));
    if !worker.is_logging() {
        return;
    }
    worker.log(&Record {
        time: SystemTime::now(),
        client: connection.peer().ip(),
        peer: connection.peer(),
        // "-" is a token, and no method.
        method: "-",
        host: "",
        path: "",
        version: Version::HTTP_11,
        route: None,
        upstream: None,
        status,
        reason: Some(reason.code()),
        queue: Duration::ZERO,
        connect: None,
        first_byte: None,
        total: Duration::ZERO,
        bytes_in: 0,
        bytes_out: 0,
        attempts: 0,
        request_id: "",
        user_agent: None,
    });
}
