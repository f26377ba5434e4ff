//! Getting a request to its backend: choose an address, take a connection from the pool or dial, send, wait, and try again where that is safe.

mod broken;
mod choose;
mod destination;
mod dial;
mod dns;
mod http2;
mod lease;
mod pool;
mod race;
mod response;
mod retry;
mod socket;
mod translate;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use http::{Request, Response, StatusCode, Version};
use tokio::time;

use self::{
    broken::{Failure, Fate},
    choose::Candidates,
    retry::Spare,
};
pub(crate) use self::{
    dns::Resolver,
    lease::{Lease, Upgraded},
    pool::Pools,
    retry::Budget,
};
use super::{
    body::{ArrivingBody, Progress, RequestBody},
    connection::Lane,
    error::{ProxyError, Reason},
    exchange::Trail,
};
use crate::{
    config::limits::{MAX_ATTEMPTS, REPLAY_PAUSE},
    route::Backend,
};

/// A backend's response, its head checked, and the connection that its body comes from.
pub(crate) struct Sent {
    pub(crate) response: Response<ArrivingBody>,
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
    // All that are sent have the time of one together.
    let mut timeout = worker.settings.limits.first_byte_timeout;
    loop {
        let mut lease = candidates.connect(lane, trail).await?;
        let address = lease.address();
        trail.connected(address, lease.is_reused());
        if lease.is_reused() {
            worker.count(|numbers| numbers.upstream_reused += 1);
        }
        if !lease.is_multiplexed() {
            progress.clear_call();
        }
        let several = candidates.lead_to_several() && !upgrade;
        let spare = Spare::of(&request, &lease, several, progress);
        let may_retry = trail.attempts < MAX_ATTEMPTS;
        let mut pause = false;
        match exchange_heads(lane, &mut lease, request, progress, timeout).await {
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
            Err(Failure { error, fate, .. }) => {
                timeout = worker.settings.limits.first_byte_timeout.saturating_sub(trail.routed_for(worker.deadlines.now()));
                let Some(spare) = spare.filter(|spare| may_retry && spare.may_follow(fate, &lease) && !timeout.is_zero()) else {
                    return Err(error);
                };
                if !worker.retry_budget.withdraw() {
                    worker.count(|numbers| numbers.retries_denied += 1);
                    return Err(error);
                }
                let struck_off = candidates.refused(address);
                if error.reason == Reason::UpstreamTimeout {
                    // Its host was silent.
                    candidates.hurry();
                } else {
                    // It has just accepted: a process that dies closes its listening socket last, and may be drawn again until then.
                    pause = fate == Fate::Unknown && !lease.is_reused() && !struck_off;
                }
                request = spare.into_request();
            }
        }
        // Of those that share a connection, one may fail for reasons of its own.
        if !lease.is_multiplexed() {
            worker.pools.distrust(lease.destination());
            candidates.distrust_pool();
        }
        drop(lease);
        worker.count(|numbers| numbers.retries += 1);
        if pause {
            // Rarely: a request has no room for it.
            Box::pin(time::sleep(REPLAY_PAUSE)).await;
        }
    }
}

/// Sends one request on one connection, and waits for the head of the response, for as long as the request moves or the timeout lasts.
async fn exchange_heads(
    lane: &Lane,
    lease: &mut Lease,
    request: Request<RequestBody>,
    progress: &Progress,
    timeout: Duration,
) -> Result<Response<ArrivingBody>, Failure> {
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
        Some(Err(broken)) => Err(broken.failure(lane.body_fault())),
        None => {
            Err(Failure { error: ProxyError::new(Reason::UpstreamTimeout, "waiting for the response"), fate: Fate::Spent, unsent: None })
        }
    }
}
