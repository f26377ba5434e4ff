//! Which address a request is sent to, and how many are tried.

mod enter;

use std::{borrow::Cow, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use super::{
    super::{
        connection::Lane,
        error::{ProxyError, Reason},
        exchange::Trail,
        worker::Worker,
    },
    destination::{Destination, Transport},
    dial,
    lease::Lease,
    pool::Order,
    race::{Event, Race},
};
use crate::{
    config::limits::{DIALS_AT_ONCE, DIALS_TO_ONE_HOST, MAX_ATTEMPTS, REDIAL_MIN, REDIAL_SHARE, SPREAD_MAX, SPREAD_PER_ENDPOINT},
    message::allowed_external,
    route::{Backend, Endpoints, Target},
};

/// The addresses that a request may go to, those that were dialled already struck off where there are others.
pub(super) struct Candidates<'a> {
    /// What is spoken there.
    transport: Transport,
    addresses: Addresses<'a>,
    /// The endpoints behind a ClusterIP: what the pool retires connections by.
    hints: Option<&'a Arc<[SocketAddr]>>,
    tried: Vec<SocketAddr>,
    /// Whether a connection from the pool may do.
    pooled: bool,
    /// How many dials may be under way beside each other.
    at_once: usize,
    /// Whether there is more than one host, as far as one knows: what one hasn't answered another one may.
    several: bool,
    /// How long all dials together may take.
    patience: Duration,
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
    pub(super) async fn of(backend: &'a Backend, upgrade: bool, worker: &Worker) -> Result<Self, ProxyError> {
        let known = match &backend.endpoints {
            Endpoints::Unknown => None,
            Endpoints::Known(endpoints) if endpoints.is_empty() => return Err(Reason::NoEndpoints.into()),
            Endpoints::Known(endpoints) => Some(endpoints),
        };
        let pods = known.map_or(0, |pods| pods.len());
        let (addresses, hints, hosts, several) = match &backend.target {
            Target::Unavailable(_) => return Err(Reason::BadBackend.into()),
            Target::ClusterIp(addresses) => {
                // Of several, any number of draws may bring up the same one.
                let hosts = if pods == 1 { 1 } else { DIALS_AT_ONCE };
                (Addresses::InOrder(Cow::Borrowed(addresses)), known, hosts, pods > 1)
            }
            Target::Endpoints => {
                let endpoints = known.ok_or(Reason::NoEndpoints)?;
                (Addresses::Pods(endpoints), None, pods, pods > 1)
            }
            Target::Dns { host, port } => {
                let addresses = resolve(worker, host, *port).await?;
                let hosts = addresses.len();
                // Two families may lead to one host.
                let alike = addresses.first().map_or(0, |first| addresses.iter().filter(|one| one.is_ipv4() == first.is_ipv4()).count());
                (Addresses::InOrder(Cow::Owned(addresses)), None, hosts, alike > 1)
            }
        };
        let at_once = hosts.clamp(DIALS_TO_ONE_HOST, DIALS_AT_ONCE);
        let (transport, patience) = (Transport::of(&backend.protocol, upgrade), worker.settings.limits.connect_timeout);
        Ok(Self { transport, addresses, hints, tried: Vec::new(), pooled: true, at_once, several, patience })
    }

    /// See the field.
    pub(super) fn lead_to_several(&self) -> bool {
        self.several
    }

    /// A connection from the pool turned out to be dead, and the others may be so for the same reason (the backend was restarted): a second try
    /// takes a new one.
    pub(super) fn distrust_pool(&mut self) {
        self.pooled = false;
    }

    /// A host left a request unacknowledged, which has taken most of the connect timeout: dialling anew has what is left of it.
    pub(super) fn hurry(&mut self) {
        self.patience = (self.patience / REDIAL_SHARE).max(REDIAL_MIN).min(self.patience);
    }

    /// Who answers at this address hasn't answered the request: another one is asked next, where there is another. Returns whether it is known to be another.
    pub(super) fn refused(&mut self, address: SocketAddr) -> bool {
        match self.addresses {
            // Another host may be drawn behind the same address.
            Addresses::InOrder(_) => false,
            Addresses::Pods(pods) => {
                self.tried.push(address);
                pods.iter().any(|pod| !self.tried.contains(pod))
            }
        }
    }

    /// A connection: an idle one where there is one, else a new one.
    pub(super) async fn connect(&mut self, lane: &Lane, trail: &mut Trail) -> Result<Lease, ProxyError> {
        let worker = lane.worker();
        let first = self.choose(worker).ok_or(Reason::NoEndpoints)?;
        if self.transport.may_multiplex() {
            return Box::pin(self.enter(lane, trail, first)).await;
        }
        if let Some(lease) = self.idle(worker, &first) {
            return Ok(lease);
        }
        lane.waiting.arm(self.patience);
        let result = self.dial(lane, trail, first).await;
        lane.waiting.disarm();
        result
    }

    /// A dial that fails is tried again, elsewhere where there is an elsewhere: nothing was sent. One that isn't answered soon may have been sent to a pod
    /// that can't be reached, so that another begins beside it.
    async fn dial(&mut self, lane: &Lane, trail: &mut Trail, first: Destination) -> Result<Lease, ProxyError> {
        let worker = lane.worker();
        let mut race = Race::new(worker, self.patience, self.at_once);
        let mut draws = self.draws();
        let before = self.tried.len();
        race.start(&first);
        self.tried.push(first.address);
        loop {
            match race.next(&lane.waiting).await {
                Event::Connected { lease, overtaken } => {
                    count_failed(worker, trail, overtaken);
                    self.learn(worker, before, &lease);
                    return Ok(lease);
                }
                Event::Timeout => {
                    count_failed(worker, trail, race.len());
                    trail.upstream = race.last();
                    return Err(ProxyError::new(Reason::UpstreamTimeout, "connecting"));
                }
                Event::Failed(destination, error) => {
                    let address = destination.address;
                    count_failed(worker, trail, 1);
                    draws = draws.saturating_sub(1);
                    // What all pods refuse must not be asked for eight times by everybody.
                    let another_draw = || draws > 0 && error.is_refusal() && worker.retry_budget.withdraw();
                    let may_retry = error.reason == Reason::UpstreamConnect && (trail.attempts < MAX_ATTEMPTS || another_draw());
                    if !may_retry && race.len() == 0 {
                        trail.upstream = Some(address);
                        return Err(error);
                    }
                    if !may_retry {
                        // One of the others may still be answered.
                        race.close();
                        continue;
                    }
                    tracing::debug!(%address, error = &error as &dyn std::error::Error, "dialling again");
                }
                Event::Silence => tracing::debug!(under_way = race.len(), "no answer yet, dialling beside"),
            }
            let next = self.choose(worker).unwrap_or_else(|| first.clone());
            let there = self
                .idle(worker, &next)
                .or_else(|| self.transport.may_multiplex().then(|| worker.pools.place(worker, &next, self.hints))?);
            if let Some(lease) = there {
                count_failed(worker, trail, race.len());
                self.learn(worker, before, &lease);
                return Ok(lease);
            }
            let mut started = race.start(&next);
            if !started && race.make_room() {
                count_failed(worker, trail, 1);
                started = race.start(&next);
            }
            if started {
                worker.count(|numbers| numbers.retries += 1);
                self.tried.push(next.address);
            }
        }
    }

    /// Those that were dialled in vain before this one answered, of those tried since there were `before`, are the last choice of the requests that follow.
    fn learn(&self, worker: &Worker, before: usize, lease: &Lease) {
        let Addresses::InOrder(addresses) = &self.addresses else { return };
        if addresses.len() > 1 {
            let now = worker.deadlines.now();
            let tried = self.tried.iter().skip(before);
            tried.filter(|tried| **tried != lease.address()).for_each(|tried| worker.pools.avoid(&self.to(*tried), now));
            worker.pools.prefer(lease.destination());
        }
    }

    fn idle(&self, worker: &Rc<Worker>, destination: &Destination) -> Option<Lease> {
        let lease = if self.pooled { worker.pools.take(worker, destination, self.hints, self.order()) } else { None }?;
        self.spread(worker, destination);
        Some(lease)
    }

    /// How many pods may be drawn for one request, those that refuse included: kube-proxy goes on for seconds to draw one that has stopped. Its host answers at
    /// once. Beyond [`MAX_ATTEMPTS`] each costs the worker's budget of retries.
    fn draws(&self) -> usize {
        match self.addresses {
            Addresses::InOrder(_) if self.hints.is_some_and(|pods| pods.len() > 1) => DIALS_AT_ONCE,
            Addresses::InOrder(_) | Addresses::Pods(_) => 0,
        }
    }

    fn order(&self) -> Order {
        match self.addresses {
            Addresses::InOrder(_) if self.hints.is_none_or(|pods| pods.len() > 1) => Order::InTurn,
            Addresses::InOrder(_) | Addresses::Pods(_) => Order::LatestFirst,
        }
    }

    fn choose(&self, worker: &Worker) -> Option<Destination> {
        let address = self.choose_address(worker)?;
        Some(self.to(address))
    }

    fn to(&self, address: SocketAddr) -> Destination {
        Destination { address, transport: self.transport.clone() }
    }

    fn choose_address(&self, worker: &Worker) -> Option<SocketAddr> {
        match &self.addresses {
            // kube-proxy chooses anew behind the same address; another family may work where one doesn't.
            Addresses::InOrder(addresses) => {
                let mut untried = addresses.iter().filter(|address| !self.tried.contains(address));
                let first = untried.clone().next().or(addresses.first()).copied();
                if addresses.len() == 1 {
                    return first;
                }
                let now = worker.deadlines.now();
                untried.find(|address| worker.pools.may_begin_with(&self.to(**address), now)).copied().or(first)
            }
            Addresses::Pods(pods) => {
                let alive: Vec<SocketAddr>;
                let pods = if self.tried.is_empty() {
                    pods
                } else {
                    alive = pods.iter().filter(|pod| !self.tried.contains(pod)).copied().collect();
                    if alive.is_empty() { pods } else { alive.as_slice() }
                };
                let mut random = worker.random.borrow_mut();
                let first = random.usize(..pods.len().max(1));
                let one = *pods.get(first)?;
                // Another one where there is another: of two pods, the busier is never chosen.
                let step = 1 + random.usize(..(pods.len() - 1).max(1));
                let other = *pods.get((first + step) % pods.len())?;
                let in_use = |pod| worker.pools.in_use(&self.to(pod));
                Some(if in_use(other) < in_use(one) { other } else { one })
            }
        }
    }

    /// kube-proxy chooses a pod for each connection: with too few of them, pods go without.
    fn spread(&self, worker: &Rc<Worker>, destination: &Destination) {
        let Some(hints) = self.hints else { return };
        let each = if self.transport.may_multiplex() { 1 } else { SPREAD_PER_ENDPOINT };
        let wanted = (hints.len() * each).min(SPREAD_MAX);
        if hints.len() > 1 && worker.pools.begin_warming(destination, wanted, worker.deadlines.now()) {
            dial::warm(worker, destination);
        }
    }
}

/// Dials that failed, or that a later one has overtaken.
fn count_failed(worker: &Worker, trail: &mut Trail, dials: usize) {
    trail.attempts = trail.attempts.saturating_add(u32::try_from(dials).unwrap_or(u32::MAX));
    worker.count(|numbers| numbers.upstream_dial_failures += dials as u64);
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
