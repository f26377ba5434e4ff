//! Getting a request to its backend: choose an address, take a connection from the pool or dial, send, wait, and try again where that is safe.

mod choose;
mod destination;
mod dial;
mod dns;
mod lease;
mod pool;
mod race;
mod response;
mod retry;
mod socket;
mod translate;

use std::{error::Error, future::poll_fn, io, pin::pin, task::Poll};

use http::{Request, Response, StatusCode, Version};
use hyper::{body::Incoming, client::conn::TrySendError};

use self::{choose::Candidates, retry::Spare};
pub(crate) use self::{
    dns::Resolver,
    lease::{Lease, Upgraded},
    pool::Pools,
    retry::Budget,
};
use super::{
    body::{Progress, RequestBody},
    connection::Lane,
    error::{ProxyError, Reason},
    exchange::Trail,
};
use crate::{config::limits::MAX_ATTEMPTS, route::Backend};

/// A backend's response, its head checked, and the connection that its body comes from.
pub(crate) struct Sent {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

/// Sends `request` to `backend` and waits for the head of its response.
///
/// # Errors
/// Every reason that begins with `Upstream`, `NoEndpoints`, `BadBackend`, `Overload`, and what went wrong with the request's own body.
pub(crate) async fn send(
    lane: &Lane,
    trail: &mut Trail,
    backend: &Backend,
    mut request: Request<RequestBody>,
    progress: &Progress,
) -> Result<Sent, ProxyError> {
    let worker = lane.worker();
    let upgrade = request.headers().contains_key(http::header::UPGRADE);
    let mut candidates = Candidates::of(backend, upgrade, worker).await?;
    loop {
        let mut lease = candidates.connect(lane, trail).await?;
        let address = lease.address();
        trail.connected(address, lease.is_reused());
        if lease.is_reused() {
            worker.count(|numbers| numbers.upstream_reused += 1);
        }
        let spare = Spare::of(&request, &lease, progress);
        let may_retry = trail.attempts < MAX_ATTEMPTS;
        match exchange_heads(lane, &mut lease, request, progress).await {
            Ok(response) => {
                response::check(&response, upgrade, worker.settings.limits.response_header_count)?;
                if upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    // Who knows what the two ends take for the beginning of what comes next.
                    lease.retire();
                }
                if response.version() < Version::HTTP_11 {
                    // The client would speak HTTP/1.0 to it from now on, which has no chunked bodies.
                    lease.retire();
                }
                return Ok(Sent { response, lease });
            }
            // Nothing of it was written: the connection had died in the pool.
            Err(Failure { unsent: Some(unsent), .. }) if may_retry => {
                request = *unsent;
                // The next connection may speak another version.
                translate::to_http1(&mut request);
            }
            Err(Failure { error, lost, .. }) => {
                let Some(spare) = spare.filter(|_| may_retry && !lease.has_heard() && lost) else {
                    return Err(error);
                };
                if !worker.retry_budget.withdraw() {
                    worker.count(|numbers| numbers.retries_denied += 1);
                    return Err(error);
                }
                if error.reason == Reason::UpstreamTimeout {
                    // Its host was silent.
                    candidates.hurry(address);
                }
                request = spare.into_request();
            }
        }
        // Of those that share a connection, one may fail for reasons of its own.
        if !lease.is_multiplexed() {
            worker.pools.distrust(lease.destination());
            candidates.distrust_pool();
        }
        worker.count(|numbers| numbers.retries += 1);
    }
}

/// A request that got no response.
struct Failure {
    error: ProxyError,
    /// The connection is gone, while the backend may well be there.
    lost: bool,
    /// The request, if nothing of it was written.
    unsent: Option<Box<Request<RequestBody>>>,
}

/// Sends one request on one connection, and waits for the head of the response, for as long as the request moves or the first-byte timeout lasts.
async fn exchange_heads(
    lane: &Lane,
    lease: &mut Lease,
    request: Request<RequestBody>,
    progress: &Progress,
) -> Result<Response<Incoming>, Failure> {
    let timeout = lane.worker().settings.limits.first_byte_timeout;
    let mut response = pin!(lease.send(request));
    lane.waiting.arm(timeout);
    let result = poll_fn(|cx| {
        if let Poll::Ready(result) = response.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        if lane.waiting.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if !progress.take_busy() {
            return Poll::Ready(None);
        }
        // A long upload is no slow backend.
        lane.waiting.arm(timeout);
        lane.waiting.poll(cx).map(|()| None)
    })
    .await;
    lane.waiting.disarm();
    match result {
        Some(Ok(response)) => Ok(response),
        Some(Err(error)) => Err(failure(error)),
        None => Err(Failure { error: ProxyError::new(Reason::UpstreamTimeout, "waiting for the response"), lost: false, unsent: None }),
    }
}

fn failure(mut error: TrySendError<Request<RequestBody>>) -> Failure {
    let unsent = error.take_message().map(Box::new);
    let error = error.into_error();
    if is_unacknowledged(&error) {
        let error = ProxyError::caused(Reason::UpstreamTimeout, "waiting for the backend's host to acknowledge the request", error);
        return Failure { error, lost: true, unsent };
    }
    let given_up = is_given_up(&error);
    if is_invalid(&error) {
        return Failure { error: ProxyError::caused(Reason::UpstreamInvalid, "waiting for the response", error), lost: false, unsent };
    }
    let error = classify(error);
    Failure { lost: error.reason == Reason::UpstreamReset && !given_up, error, unsent }
}

/// HTTP/2: what the backend has sent is a response that nobody can understand, or too long.
fn is_invalid(error: &hyper::Error) -> bool {
    cause::<h2::Error>(error).is_some_and(|cause| cause.is_reset() && cause.is_library())
}

/// HTTP/2: the backend has reset this one stream, and not because it hasn't looked at it (RFC 9113 section 8.7).
fn is_given_up(error: &hyper::Error) -> bool {
    cause::<h2::Error>(error)
        .is_some_and(|cause| cause.is_reset() && cause.is_remote() && cause.reason() != Some(h2::Reason::REFUSED_STREAM))
}

/// The kernel gave the connection up, see [`socket`].
fn is_unacknowledged(error: &hyper::Error) -> bool {
    cause::<io::Error>(error).is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// What the client's error comes from, if it is one of that kind.
fn cause<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    error.source()?.downcast_ref()
}

/// What an error of the HTTP client means for the request.
fn classify(error: hyper::Error) -> ProxyError {
    // The request's own body says what is wrong with it.
    let mut source = Error::source(&error);
    while let Some(cause) = source {
        if let Some(ours) = cause.downcast_ref::<ProxyError>() {
            return ProxyError::new(ours.reason, ours.detail);
        }
        source = cause.source();
    }
    let reason = if error.is_parse() { Reason::UpstreamInvalid } else { Reason::UpstreamReset };
    ProxyError::caused(reason, "waiting for the response", error)
}
