//! What can go wrong with a request, as data: the reason a client is told, whose fault it was, and the cause for our own log.

use std::io;

use http::StatusCode;

/// Why we answer ourselves: the reason codes of the access log, the metric, and the `X-Nodegate-Reason` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No rule matches.
    NoRoute,
    /// There is no route table yet: whether a rule matches can't be said.
    NotReady,
    /// It came over plain HTTP, and the Ingress wants HTTPS.
    HttpsOnly,
    /// The client has to prove who it is, and can't on this connection.
    Denied,
    /// The host has another certificate than the one that its connection was given.
    Misdirected,
    /// TRACE or CONNECT.
    Method,
    /// A request line, `Host`, framing or header that RFC 9110 or 9112 forbids.
    BadRequest,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// A head too large, or of too many fields.
    HeaderLimit,
    /// The client took too long over its head or body.
    ClientTimeout,
    /// The client went away before it had its answer. Nobody sees the status; it is nginx's number in the log.
    ClientGone,
    /// No endpoint of the Service is ready.
    NoEndpoints,
    /// The Ingress names a Service or port that doesn't exist, or something we can't dial.
    BadBackend,
    /// We are out of file descriptors or connections.
    Overload,
    /// The connection to the backend was refused or failed.
    UpstreamConnect,
    /// The backend closed before its response began, or in the middle of its body.
    UpstreamReset,
    /// The backend's response is no valid HTTP.
    UpstreamInvalid,
    /// The backend took too long to accept the connection, or to begin its response.
    UpstreamTimeout,
}

impl Reason {
    /// The status of our answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::HttpsOnly => StatusCode::PERMANENT_REDIRECT,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeaderLimit => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::NotReady | Self::NoEndpoints | Self::BadBackend | Self::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamConnect | Self::UpstreamReset | Self::UpstreamInvalid => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The reason code: stable, lower case, for machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NotReady => "not_ready",
            Self::HttpsOnly => "https_only",
            Self::Misdirected => "misdirected",
            Self::Denied => "denied",
            Self::Method => "method",
            Self::BadRequest => "bad_request",
            Self::Expectation => "expectation",
            Self::HeaderLimit => "header_limit",
            Self::ClientTimeout => "client_timeout",
            Self::ClientGone => "client_gone",
            Self::NoEndpoints => "no_endpoints",
            Self::BadBackend => "bad_backend",
            Self::Overload => "overload",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// One sentence for people. It names nothing of the inside.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRoute => "Nothing is served at this address.",
            Self::NotReady => "The proxy is starting; try again in a moment.",
            Self::HttpsOnly => "This address is served over HTTPS.",
            Self::Misdirected => "This connection is for another host.",
            Self::Denied => "This address is for certain clients alone.",
            Self::Method => "This method is not allowed here.",
            Self::BadRequest => "The request is malformed.",
            Self::Expectation => "The expectation can't be met.",
            Self::HeaderLimit => "The request's headers are too large or too many.",
            Self::ClientTimeout => "The request took too long to arrive.",
            Self::ClientGone => "The client went away.",
            Self::NoEndpoints => "The service has no instance that is ready.",
            Self::BadBackend => "The service isn't configured correctly.",
            Self::Overload => "Too much is going on; try again in a moment.",
            Self::UpstreamConnect => "The service can't be reached.",
            Self::UpstreamReset => "The service broke off the connection.",
            Self::UpstreamInvalid => "The service's response is invalid.",
            Self::UpstreamTimeout => "The service took too long to respond.",
        }
    }

    /// Whose fault it was.
    pub fn fault(self) -> Fault {
        match self {
            Self::NoRoute
            | Self::HttpsOnly
            | Self::Misdirected
            | Self::Denied
            | Self::Method
            | Self::BadRequest
            | Self::Expectation
            | Self::HeaderLimit
            | Self::ClientTimeout
            | Self::ClientGone => Fault::Client,
            Self::NoEndpoints
            | Self::BadBackend
            | Self::UpstreamConnect
            | Self::UpstreamReset
            | Self::UpstreamInvalid
            | Self::UpstreamTimeout => Fault::Upstream,
            Self::NotReady | Self::Overload => Fault::Us,
        }
    }
}

/// Whose fault an error was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request's.
    Client,
    /// The backend's, or of the configuration that leads to it.
    Upstream,
    /// Ours.
    Us,
}

/// A request that ended without a response from its backend.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", .reason.code())]
pub(crate) struct ProxyError {
    /// What the client is told.
    pub(crate) reason: Reason,
    /// What was being done, for our log.
    pub(crate) detail: &'static str,
    /// The error below, if there was one.
    #[source]
    pub(crate) cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProxyError {
    pub(crate) fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail, cause: None }
    }

    pub(crate) fn caused(reason: Reason, detail: &'static str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { reason, detail, cause: Some(cause.into()) }
    }

    /// Whether a host has said that nobody listens there, or one on the way that nobody is there: it needn't be waited for.
    pub(crate) fn is_refusal(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        let cause = self.cause.as_ref().and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.is_some_and(|cause| matches!(cause.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable))
    }
}

impl From<Reason> for ProxyError {
    fn from(reason: Reason) -> Self {
        Self::new(reason, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_says_of_it_is_a_refusal_and_silence_is_none() {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
        let of = |kind: io::ErrorKind| ProxyError::caused(Reason::UpstreamConnect, "connecting", io::Error::from(kind)).is_refusal();
        assert!([ConnectionRefused, HostUnreachable, NetworkUnreachable].into_iter().all(of));
        assert!(![ConnectionReset, TimedOut].into_iter().any(of));
        assert!(!ProxyError::new(Reason::UpstreamTimeout, "connecting").is_refusal());
    }
}
