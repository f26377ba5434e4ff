//! What a request holds of a connection to a backend: all of it, or a place on it.

use std::{net::SocketAddr, rc::Rc};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Body as _, client::conn::http1};
use tokio::{sync::oneshot, task::AbortHandle, time::Instant};

use super::{
    super::{
        body::{ArrivingBody, RequestBody},
        worker::Worker,
    },
    broken::Broken,
    destination::Destination,
    dial,
    pool::{Open, Place},
    socket::{Signs, Socket},
    translate,
};
use crate::config::limits;

/// A connection, or a place on one, that one request holds. Dropped, it is closed, or its stream is; only [`Lease::give_back`] keeps it.
pub(crate) struct Lease {
    held: Held,
    worker: Rc<Worker>,
    reused: bool,
}

enum Held {
    Whole(Link),
    Place(Place),
}

/// A connection to a backend that carries one request at a time, in use or idle.
pub(super) struct Link {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) destination: Destination,
    /// After this moment it isn't reused.
    pub(super) expires: Instant,
    /// The pool's epoch when it was dialled.
    pub(super) epoch: u64,
    /// Not to be reused, however well it does.
    pub(super) retired: bool,
    /// Requests that it has been given.
    pub(super) carried: u32,
    pub(super) driver: AbortHandle,
    pub(super) signs: Rc<Signs>,
    pub(super) upgraded: oneshot::Receiver<Upgraded>,
}

/// The socket of a connection that has switched protocols, and what was read of it already.
pub(crate) struct Upgraded {
    pub(crate) stream: Socket,
    pub(crate) read: Bytes,
    /// It counts as a connection to its backend as long as it lives.
    pub(crate) open: Open,
}

impl Lease {
    pub(super) fn new(link: Link, worker: &Rc<Worker>, reused: bool) -> Self {
        Self { held: Held::Whole(link), worker: Rc::clone(worker), reused }
    }

    pub(super) fn on(place: Place, worker: &Rc<Worker>) -> Self {
        let reused = place.connection.is_reused();
        Self { held: Held::Place(place), worker: Rc::clone(worker), reused }
    }

    pub(super) fn destination(&self) -> &Destination {
        match &self.held {
            Held::Whole(link) => &link.destination,
            Held::Place(place) => &place.connection.destination,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.destination().address
    }

    /// Whether the connection has carried a request before: then it may have died in the meantime.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether other requests may be on the connection, too.
    pub(crate) fn is_multiplexed(&self) -> bool {
        matches!(self.held, Held::Place(_))
    }

    pub(super) async fn send(&mut self, mut request: Request<RequestBody>) -> Result<Response<ArrivingBody>, Broken> {
        match &mut self.held {
            Held::Whole(link) => {
                link.signs.heard.set(false);
                let short = request.body().size_hint().exact().is_some_and(|length| length <= limits::ACKNOWLEDGED_BODY_BYTES);
                let connect_timeout = self.worker.settings.limits.connect_timeout;
                // The rest is for dialling anew.
                let within = connect_timeout / limits::REDIAL_SHARE * (limits::REDIAL_SHARE - 1);
                link.signs.acknowledged_within.set(short.then_some(within));
                link.carried = link.carried.saturating_add(1);
                translate::to_http1(&mut request);
                link.sender.try_send_request(request).await.map(|response| response.map(ArrivingBody::Http1)).map_err(Broken::from)
            }
            Held::Place(place) => place.send(request).await,
        }
    }

    /// Whether the backend has begun to answer: then it may have acted on the request. On a connection that others use, too, that can't be told but by an
    /// answer.
    pub(super) fn has_heard(&self) -> bool {
        match &self.held {
            Held::Whole(link) => link.signs.heard.get(),
            Held::Place(_) => false,
        }
    }

    /// This request is its last.
    pub(super) fn retire(&mut self) {
        match &mut self.held {
            Held::Whole(link) => link.retired = true,
            Held::Place(_) => {}
        }
    }

    /// Back to the pool, for the next request; or closed, and replaced by one to whichever pod kube-proxy chooses.
    pub(crate) fn give_back(self) {
        let Self { held, worker, reused: _ } = self;
        let link = match held {
            Held::Whole(link) => link,
            // Its place is free again.
            Held::Place(_) => return,
        };
        if link.carried >= limits::REDRAW_REQUESTS
            && worker.pools.begin_redraw(&link.destination, worker.deadlines.now(), worker.settings.workers)
        {
            return dial::warm(&worker, &link.destination);
        }
        worker.pools.put(link, &worker.settings.limits, worker.deadlines.now());
    }

    /// The socket, after a response that switches protocols. `None`: it closed instead.
    pub(crate) async fn upgraded(self) -> Option<Upgraded> {
        match self.held {
            Held::Whole(mut link) => (&mut link.upgraded).await.ok(),
            Held::Place(_) => None,
        }
    }
}

impl Link {
    pub(super) fn is_usable(&self, now: Instant, epoch: u64) -> bool {
        !self.sender.is_closed() && self.sender.is_ready() && self.is_current(now, epoch)
    }

    /// Neither too old nor opened when other pods were behind the address.
    pub(super) fn is_current(&self, now: Instant, epoch: u64) -> bool {
        now < self.expires && self.epoch == epoch && !self.retired && !self.signs.broken.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
