//! What became of a request that got no response, from what the HTTP client says of it.

use std::{error::Error, io};

use http::Request;
use hyper::client::conn::TrySendError;

use super::super::{
    body::RequestBody,
    connection::BodyFault,
    error::{ProxyError, Reason},
};

/// See above, as the client has it.
pub(super) struct Broken {
    error: Cause,
    unsent: Option<Box<Request<RequestBody>>>,
}

enum Cause {
    Http1(hyper::Error),
    Http2(h2::Error),
}

/// A request that got no response.
pub(super) struct Failure {
    pub(super) error: ProxyError,
    pub(super) fate: Fate,
    /// The request, if nothing of it was written.
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
}

/// What the backend may have done with such a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing: it says that it hasn't looked at it (RFC 9113 section 8.7).
    Untouched,
    /// Anything: the connection is gone, while the backend may well be there.
    Unknown,
    /// It has had it, or the request itself is at fault.
    Spent,
}

impl From<TrySendError<Request<RequestBody>>> for Broken {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        let unsent = error.take_message().map(Box::new);
        Self { error: Cause::Http1(error.into_error()), unsent }
    }
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self { error: Cause::Http2(error), unsent: None }
    }
}

impl Broken {
    /// Nothing of `request` was written.
    pub(super) fn unsent(error: h2::Error, request: Request<RequestBody>) -> Self {
        Self { error: Cause::Http2(error), unsent: Some(Box::new(request)) }
    }

    /// What it means. `fault` is what is known to be wrong with the request's body.
    pub(super) fn failure(self, fault: Option<BodyFault>) -> Failure {
        let Self { error, unsent } = self;
        if error.is_unacknowledged() {
            let error = error.explained(Reason::UpstreamTimeout, "waiting for the backend's host to acknowledge the request");
            return Failure { error, fate: Fate::Unknown, unsent };
        }
        if let Some((reason, detail)) = error.of_the_request().or_else(|| fault.map(|fault| (fault.reason(), "reading the request's body")))
        {
            return Failure { error: error.explained(reason, detail), fate: Fate::Spent, unsent };
        }
        if error.is_invalid() {
            return Failure { error: error.explained(Reason::UpstreamInvalid, "waiting for the response"), fate: Fate::Spent, unsent };
        }
        let fate = error.fate();
        Failure { error: error.explained(Reason::UpstreamReset, "waiting for the response"), fate, unsent }
    }
}

impl Cause {
    /// The kernel gave the connection up, see [`super::socket`].
    fn is_unacknowledged(&self) -> bool {
        let io = match self {
            Self::Http1(error) => error.source().and_then(|cause| cause.downcast_ref()),
            Self::Http2(error) => error.get_io(),
        };
        io.is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::TimedOut)
    }

    /// What the backend has sent is a response that nobody can understand, or too long.
    fn is_invalid(&self) -> bool {
        match self {
            Self::Http1(error) => error.is_parse(),
            Self::Http2(error) => error.is_library() && error.reason() != Some(h2::Reason::ENHANCE_YOUR_CALM),
        }
    }

    /// Of a request that was sent.
    fn fate(&self) -> Fate {
        let Self::Http2(error) = self else { return Fate::Unknown };
        match error.reason() {
            // Of those that a `GOAWAY` reports as begun, none ends with it.
            _ if error.is_go_away() && error.is_remote() => Fate::Untouched,
            Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => Fate::Untouched,
            _ if error.is_reset() && error.is_remote() => Fate::Spent,
            _ => Fate::Unknown,
        }
    }

    /// What the request's own body says is wrong with it.
    fn of_the_request(&self) -> Option<(Reason, &'static str)> {
        let Self::Http1(error) = self else { return None };
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(ours) = cause.downcast_ref::<ProxyError>() {
                return Some((ours.reason, ours.detail));
            }
            source = cause.source();
        }
        None
    }

    fn explained(self, reason: Reason, detail: &'static str) -> ProxyError {
        match self {
            Self::Http1(error) => ProxyError::caused(reason, detail, error),
            Self::Http2(error) => ProxyError::caused(reason, detail, error),
        }
    }
}
