//! Connections that carry several requests at a time: a place on one of them, or one more, for which one request dials and others wait.

use std::{future::poll_fn, net::SocketAddr};

use tokio::time::{Instant, sleep_until};

use super::{
    super::{
        super::{
            connection::Lane,
            error::{ProxyError, Reason},
            exchange::Trail,
            worker::Worker,
        },
        destination::Destination,
        lease::Lease,
        pool::NoRoom,
    },
    Addresses, Candidates,
};
use crate::config::limits::DIAL_STAGGER;

impl Candidates<'_> {
    /// A place on a connection that carries several requests at a time. Where there is none, one request dials, and the others wait for what comes of it: not
    /// for long where there is another address.
    pub(super) async fn enter(&mut self, lane: &Lane, trail: &mut Trail, first: Destination) -> Result<Lease, ProxyError> {
        lane.waiting.arm(self.patience);
        let result = self.enter_in_time(lane, trail, first).await;
        lane.waiting.disarm();
        result
    }

    async fn enter_in_time(&mut self, lane: &Lane, trail: &mut Trail, mut destination: Destination) -> Result<Lease, ProxyError> {
        let worker = lane.worker();
        let mut leaves = Instant::now() + DIAL_STAGGER;
        let mut failed = Vec::new();
        loop {
            // Those of HTTP/1.1, where the handshake has led to that.
            if let Some(lease) = self.idle(worker, &destination) {
                return Ok(lease);
            }
            let changed = match worker.pools.enter(worker, &destination, self.hints) {
                Ok(lease) => {
                    self.spread(worker, &destination);
                    return Ok(lease);
                }
                Err(NoRoom::Dial) => {
                    let dialling = Dialling { worker, destination: destination.clone() };
                    let result = self.dial(lane, trail, destination).await;
                    let reason = match &result {
                        Err(error) => Some(error.reason),
                        // Another address has been faster.
                        Ok(lease) => (*lease.destination() != dialling.destination).then_some(Reason::UpstreamTimeout),
                    };
                    if let Some(reason) = reason {
                        worker.pools.dial_failed(&dialling.destination, reason);
                    }
                    return result;
                }
                Err(NoRoom::Wait(changed)) => changed,
            };
            let elsewhere = self.has_others(&destination, &failed);
            let mut waiting = Waiting::begin(worker, &destination);
            let goes = tokio::select! {
                biased;
                () = changed.notified() => false,
                () = poll_fn(|cx| lane.waiting.poll(cx)) => {
                    trail.upstream = Some(destination.address);
                    return Err(ProxyError::new(Reason::UpstreamTimeout, "waiting for a connection"));
                }
                () = sleep_until(leaves), if elsewhere => true,
            };
            let failure = waiting.end();
            failed.extend(failure.map(|_| destination.address));
            match failure {
                // As whoever has dialled would say of it.
                Some(reason) if !elsewhere => {
                    trail.upstream = Some(destination.address);
                    return Err(reason.into());
                }
                _ if goes || failure.is_some() => {
                    destination = self.leave(worker, destination, &failed);
                    leaves = Instant::now() + DIAL_STAGGER;
                }
                _ => {}
            }
        }
    }

    /// Whether there is an address to go to that isn't known to have failed.
    fn has_others(&self, here: &Destination, failed: &[SocketAddr]) -> bool {
        match &self.addresses {
            Addresses::InOrder(addresses) => others(addresses, here, failed).next().is_some(),
            Addresses::Pods(pods) => pods.len() > 1,
        }
    }

    /// Where to wait next, or dial.
    fn leave(&mut self, worker: &Worker, here: Destination, failed: &[SocketAddr]) -> Destination {
        self.tried.push(here.address);
        let next = match &self.addresses {
            Addresses::InOrder(addresses) => {
                let untried = others(addresses, &here, failed).find(|other| !self.tried.contains(other));
                untried.or_else(|| others(addresses, &here, failed).next()).map(|next| self.to(next))
            }
            Addresses::Pods(_) => self.choose(worker),
        };
        next.unwrap_or(here)
    }
}

/// Addresses that are left, when nobody has got through to those that `failed`.
fn others<'a>(addresses: &'a [SocketAddr], here: &'a Destination, failed: &'a [SocketAddr]) -> impl Iterator<Item = SocketAddr> + 'a {
    addresses.iter().copied().filter(|other| *other != here.address && !failed.contains(other))
}

/// The dial that others wait for, until it is over in whatever way.
struct Dialling<'a> {
    worker: &'a Worker,
    destination: Destination,
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.worker.pools.dialled(&self.destination, None);
    }
}

/// A request that waits for another one's dial, in the books of its pool until it waits no more.
struct Waiting<'a> {
    worker: &'a Worker,
    destination: Destination,
    /// How many dials had failed when it began; `None`: it has ended.
    failures: Option<u64>,
}

impl<'a> Waiting<'a> {
    fn begin(worker: &'a Worker, destination: &Destination) -> Self {
        Self { worker, destination: destination.clone(), failures: Some(worker.pools.begin_waiting(destination)) }
    }

    /// Why dialling has failed meanwhile, if it has.
    fn end(&mut self) -> Option<Reason> {
        self.failures.take().and_then(|failures| self.worker.pools.end_waiting(&self.destination, failures))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
