//! Which address a request is sent to, and how many are tried.

use std::{borrow::Cow, net::SocketAddr, rc::Rc, sync::Arc};

use super::{
    super::{
        connection::Connection,
        error::{ProxyError, Reason},
        exchange::Trail,
        worker::Worker,
    },
    dial::{self, Lease},
};
use crate::{
    config::limits::{MAX_ATTEMPTS, SPREAD_MAX, SPREAD_PER_ENDPOINT},
    message::allowed_external,
    route::{Backend, Endpoints, Target},
};

/// The addresses that a request may go to, those that failed struck off where there are others.
pub(super) struct Candidates<'a> {
    addresses: Addresses<'a>,
    /// The endpoints behind a ClusterIP: what the pool retires connections by.
    hints: Option<&'a Arc<[SocketAddr]>>,
    failed: Vec<SocketAddr>,
    /// Whether a connection from the pool may do.
    pooled: bool,
}

enum Addresses<'a> {
    /// Any is as good as another, and behind each may be several pods: the first that works.
    InOrder(Cow<'a, [SocketAddr]>),
    /// Each is a pod: the less loaded of two.
    Pods(&'a [SocketAddr]),
}

impl<'a> Candidates<'a> {
    /// # Errors
    /// `NoEndpoints` or `BadBackend` where there is nothing to dial; `UpstreamConnect` where a name doesn't resolve.
    pub(super) async fn of(backend: &'a Backend, worker: &Worker) -> Result<Self, ProxyError> {
        let known = match &backend.endpoints {
            Endpoints::Unknown => None,
            Endpoints::Known(endpoints) if endpoints.is_empty() => return Err(Reason::NoEndpoints.into()),
            Endpoints::Known(endpoints) => Some(endpoints),
        };
        let (addresses, hints) = match &backend.target {
            Target::Unavailable(_) => return Err(Reason::BadBackend.into()),
            Target::ClusterIp(addresses) => (Addresses::InOrder(Cow::Borrowed(addresses)), known),
            Target::Endpoints => (Addresses::Pods(known.ok_or(Reason::NoEndpoints)?), None),
            Target::Dns { host, port } => (Addresses::InOrder(Cow::Owned(resolve(worker, host, *port).await?)), None),
        };
        Ok(Self { addresses, hints, failed: Vec::new(), pooled: true })
    }

    /// A connection from the pool turned out to be dead, and the others may be so for the same reason (the backend was restarted): a second try
    /// takes a new one.
    pub(super) fn distrust_pool(&mut self) {
        self.pooled = false;
    }

    /// A connection: an idle one where there is one, else a new one. A dial that fails is tried again, elsewhere where there is an elsewhere: nothing
    /// was sent.
    pub(super) async fn connect(&mut self, connection: &Connection, trail: &mut Trail) -> Result<Lease, ProxyError> {
        let worker = connection.worker();
        // Each attempt has its share: one that isn't answered may have been sent to a pod that can't be reached.
        let share = worker.settings.limits.connect_timeout / MAX_ATTEMPTS;
        loop {
            let address = self.choose(worker).ok_or(Reason::NoEndpoints)?;
            let idle = if self.pooled { worker.pools.take(worker, address, self.hints) } else { None };
            if let Some(lease) = idle {
                self.spread(worker, address);
                return Ok(lease);
            }
            connection.waiting.arm(share);
            match dial::dial_before(worker, address, &connection.waiting).await {
                Ok(lease) => {
                    connection.waiting.disarm();
                    return Ok(lease);
                }
                Err(error) => {
                    trail.attempts += 1;
                    let may_retry =
                        matches!(error.reason, Reason::UpstreamConnect | Reason::UpstreamTimeout) && trail.attempts < MAX_ATTEMPTS;
                    if !may_retry {
                        trail.upstream = Some(address);
                        return Err(error);
                    }
                    tracing::debug!(%address, error = &error as &dyn std::error::Error, "dialling again");
                    worker.count(|numbers| numbers.retries += 1);
                    self.failed.push(address);
                }
            }
        }
    }

    fn choose(&self, worker: &Worker) -> Option<SocketAddr> {
        match &self.addresses {
            // kube-proxy chooses anew behind the same address; another family may work where one doesn't.
            Addresses::InOrder(addresses) => addresses.iter().find(|address| !self.failed.contains(address)).or(addresses.first()).copied(),
            Addresses::Pods(pods) => {
                let alive: Vec<SocketAddr>;
                let pods = if self.failed.is_empty() {
                    pods
                } else {
                    alive = pods.iter().filter(|pod| !self.failed.contains(pod)).copied().collect();
                    if alive.is_empty() { pods } else { alive.as_slice() }
                };
                let mut random = worker.random.borrow_mut();
                let first = random.usize(..pods.len().max(1));
                let one = *pods.get(first)?;
                // Another one where there is another: of two pods, the busier is never chosen.
                let step = 1 + random.usize(..(pods.len() - 1).max(1));
                let other = *pods.get((first + step) % pods.len())?;
                Some(if worker.pools.in_use(other) < worker.pools.in_use(one) { other } else { one })
            }
        }
    }

    /// kube-proxy chooses a pod for each connection: with too few of them, pods go without.
    fn spread(&self, worker: &Rc<Worker>, address: SocketAddr) {
        let Some(hints) = self.hints else { return };
        let wanted = (hints.len() * SPREAD_PER_ENDPOINT).min(SPREAD_MAX);
        if hints.len() > 1 && worker.pools.begin_warming(address, wanted, worker.deadlines.now()) {
            dial::warm(worker, address);
        }
    }
}

async fn resolve(worker: &Worker, host: &str, port: u16) -> Result<Vec<SocketAddr>, ProxyError> {
    let addresses =
        worker.resolver.resolve(host).await.map_err(|error| ProxyError::caused(Reason::UpstreamConnect, "resolving the name", error))?;
    let allowed = |address: &std::net::IpAddr| worker.settings.allow_unsafe_external || allowed_external(*address);
    let addresses: Vec<SocketAddr> = addresses.iter().copied().filter(allowed).map(|address| SocketAddr::new(address, port)).collect();
    if addresses.is_empty() {
        return Err(ProxyError::new(Reason::BadBackend, "the name leads to no address that may be dialled"));
    }
    Ok(addresses)
}
