//! One request's dials beside each other: one that stays unanswered gets company, and isn't given up for it (RFC 8305 section 5). The first that connects
//! wins; the others are dropped, which closes their sockets. Where each goes, and what is counted, is `choose`'s matter.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, rc::Rc, task::Poll, time::Duration};

use tokio::time::{Instant, Sleep, sleep};

use super::{
    super::{deadline::Deadline, error::ProxyError, worker::Worker},
    destination::Destination,
    dial::dial,
    lease::Lease,
};
use crate::config::limits::{DIAL_GIVEN_UP, DIAL_STAGGER, DIALS_BESIDE};

/// The dials of one request that are under way, the oldest first.
pub(super) struct Race<'a> {
    worker: &'a Rc<Worker>,
    dials: Vec<Dial<'a>>,
    /// How many may be under way.
    most: usize,
    stagger: Duration,
    /// When the youngest has been without an answer for long enough.
    silent: Pin<Box<Sleep>>,
}

/// What happens first.
pub(super) enum Event {
    Connected {
        lease: Lease,
        /// Dials that began earlier, and got no answer.
        overtaken: usize,
    },
    Failed(Destination, ProxyError),
    /// There is no answer yet, and room for another dial.
    Silence,
    /// The deadline has passed.
    Timeout,
}

struct Dial<'a> {
    destination: Destination,
    begun: Instant,
    connecting: Pin<Box<dyn Future<Output = Result<Lease, ProxyError>> + 'a>>,
    /// One of a request's needs no leave.
    beside: Option<Beside<'a>>,
}

/// A dial beside another one, in the books of the pool of its address until it is dropped.
struct Beside<'a> {
    worker: &'a Worker,
    destination: Destination,
}

impl<'a> Race<'a> {
    /// No more than `most` dials at a time, all of which can begin within `patience`.
    pub(super) fn new(worker: &'a Rc<Worker>, patience: Duration, most: usize) -> Self {
        let parts = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        let stagger = DIAL_STAGGER.min(patience / parts);
        Self { worker, dials: Vec::new(), most, stagger, silent: Box::pin(sleep(stagger)) }
    }

    /// Begins a dial. False: it would be one beside others, and there are enough of these to that address.
    pub(super) fn start(&mut self, destination: &Destination) -> bool {
        let is_beside = self.dials.iter().any(|dial| dial.beside.is_none());
        let beside = if is_beside { Beside::begin(self.worker, destination) } else { None };
        if is_beside && beside.is_none() {
            return false;
        }
        let begun = Instant::now();
        let (worker, to) = (self.worker, destination.clone());
        let connecting = Box::pin(async move { dial(worker, &to).await });
        self.dials.push(Dial { destination: destination.clone(), begun, connecting, beside });
        self.silent.as_mut().reset(begun + self.stagger);
        true
    }

    /// Gives the dial up that needed no leave, if it has waited for long enough: another may take its place. Returns whether it did.
    pub(super) fn make_room(&mut self) -> bool {
        let given_up = self.dials.iter().position(|dial| dial.beside.is_none() && dial.begun.elapsed() >= DIAL_GIVEN_UP);
        given_up.map(|index| self.dials.remove(index)).is_some()
    }

    /// From now on silence is no reason for another dial.
    pub(super) fn close(&mut self) {
        self.most = 0;
    }

    /// How many dials are under way.
    pub(super) fn len(&self) -> usize {
        self.dials.len()
    }

    /// Where the youngest dial goes.
    pub(super) fn last(&self) -> Option<SocketAddr> {
        self.dials.last().map(|dial| dial.destination.address)
    }

    pub(super) async fn next(&mut self, deadline: &Deadline) -> Event {
        poll_fn(|cx| {
            for (index, dial) in self.dials.iter_mut().enumerate() {
                if let Poll::Ready(result) = dial.connecting.as_mut().poll(cx) {
                    let destination = self.dials.remove(index).destination;
                    return Poll::Ready(match result {
                        Ok(lease) => Event::Connected { lease, overtaken: index },
                        Err(error) => Event::Failed(destination, error),
                    });
                }
            }
            if deadline.poll(cx).is_ready() {
                return Poll::Ready(Event::Timeout);
            }
            if self.dials.len() < self.most && self.silent.as_mut().poll(cx).is_ready() {
                self.silent.as_mut().reset(Instant::now() + self.stagger);
                return Poll::Ready(Event::Silence);
            }
            Poll::Pending
        })
        .await
    }
}

impl<'a> Beside<'a> {
    fn begin(worker: &'a Worker, destination: &Destination) -> Option<Self> {
        // Not `then_some`, whose argument would be dropped where there is none.
        worker.pools.begin_beside(destination, DIALS_BESIDE).then(|| Self { worker, destination: destination.clone() })
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        self.worker.pools.end_beside(&self.destination);
    }
}
