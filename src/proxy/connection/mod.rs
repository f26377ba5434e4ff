//! One client connection: what its socket, its HTTP server and all its requests need to know of each other, and the task that runs it.

mod client;
mod fault;
mod lane;
mod serve;
mod timing;

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use self::client::Client;
pub(crate) use self::{
    fault::BodyFault,
    lane::Lane,
    serve::{serve_http1, serve_tls},
    timing::Timing,
};
use super::{deadline::Deadline, error::Reason, exchange, worker::Worker};
use crate::{config::limits, message::Downstream};

/// The state of one client connection. Lives as long as its socket does, tunnels included.
pub(crate) struct Connection {
    worker: Rc<Worker>,
    key: usize,
    peer: SocketAddr,
    /// What every request of the connection is told about its sender.
    downstream: Downstream,
    /// Both of these as PROXY protocol has them.
    source: OnceCell<Box<(SocketAddr, Downstream)>>,
    /// The host that the client has asked for in its handshake, in lower case.
    server_name: OnceCell<Box<str>>,
    /// Who the client is, if it had to show that. On its own, since most haven't.
    client: RefCell<Option<Box<Client>>>,
    /// The task that runs the connection.
    waker: RefCell<Option<Waker>>,
    /// Part of a head has come: the connection isn't idle, though the server doesn't know.
    mid_head: Cell<bool>,
    /// Bytes were written and not flushed since: a response is still on its way out.
    unflushed: Cell<bool>,
    /// The server has looked for a head last, and there was nothing: neither a message nor its end is under way.
    awaits_head: Cell<bool>,
    /// Requests that were handed to the server, and whose responses aren't complete. Over HTTP/1 one at most.
    under_way: Cell<usize>,
    /// Part of the next message has come, and waits for the response to the current one.
    held_back: Cell<bool>,
    /// When the connection last became idle.
    idle_since: Cell<Instant>,
    requests: Cell<u64>,
    /// To be closed as soon as it is idle.
    leaving: Cell<bool>,
    /// Part of the current request's body hasn't been read off the socket.
    unread_body: Cell<bool>,
    /// For whatever comes next from the client.
    reading: Deadline,
    timing: Cell<Timing>,
}

impl Connection {
    /// Enters the connection into its worker's books; dropping it strikes it off.
    pub(crate) fn register(worker: &Rc<Worker>, peer: SocketAddr, local_port: u16, tls: bool) -> Rc<Self> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let entry = worker.connections.vacant_key();
        let connection = Rc::new(Self {
            worker: Rc::clone(worker),
            key: entry,
            peer,
            downstream: Downstream::new(peer.ip(), tls, local_port, &worker.settings.trust),
            source: OnceCell::new(),
            server_name: OnceCell::new(),
            client: RefCell::default(),
            waker: RefCell::new(None),
            mid_head: Cell::new(false),
            unflushed: Cell::new(false),
            awaits_head: Cell::new(false),
            under_way: Cell::new(0),
            held_back: Cell::new(false),
            idle_since: Cell::new(worker.deadlines.now()),
            requests: Cell::new(0),
            leaving: Cell::new(false),
            unread_body: Cell::new(false),
            reading: worker.deadlines.register(),
            timing: Cell::new(Timing::Nothing),
        });
        worker.connections.insert(&connection);
        worker.count(|numbers| {
            numbers.connections_open += 1;
            numbers.connections_accepted += 1;
        });
        connection
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The handshake is done: from now on the client may be idle.
    pub(crate) fn has_shaken(&self) {
        self.time(Timing::Nothing);
        self.idle_since.set(self.worker.deadlines.now());
    }

    fn request_began(&self) {
        self.under_way.set(self.under_way.get() + 1);
        self.requests.set(self.requests.get() + 1);
    }

    fn request_done(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        self.idle_since.set(self.worker.deadlines.now());
    }

    fn message_began(&self, has_body: bool) {
        self.request_began();
        self.unread_body.set(has_body);
        self.mid_head.set(false);
    }

    fn message_done(&self) {
        // The server has looked at the socket in vain, and may take no other look before the socket stirs: so the clock starts here.
        self.time(Timing::Idle);
        if self.held_back.take() {
            self.wake();
        }
    }

    /// Starts the clock for what is expected of the client; it runs on if that is what it runs for already.
    pub(crate) fn time(&self, timing: Timing) {
        if self.timing.replace(timing) == timing {
            return;
        }
        let limits = &self.worker.settings.limits;
        match timing {
            Timing::Nothing => self.reading.disarm(),
            // Taken out of the listening queue at the last moment, or told to go in mid-handshake: its request is on its way, or never comes.
            Timing::Idle if self.worker.is_draining() || (self.leaving.get() && self.requests.get() == 0) => {
                self.reading.arm(limits::FIRST_REQUEST_GRACE);
            }
            // From when the last request ended: what is no request doesn't keep a connection.
            Timing::Idle => {
                let end = self.idle_since.get() + limits.keep_alive_timeout;
                self.reading.arm(end.saturating_duration_since(self.worker.deadlines.now()));
            }
            Timing::Head => self.reading.arm(limits.header_read_timeout),
            Timing::Handshake | Timing::Preface if self.worker.is_draining() || self.leaving.get() => {
                self.reading.arm(limits::FIRST_REQUEST_GRACE);
            }
            Timing::Preface => self.reading.arm(limits.header_read_timeout),
            Timing::Handshake => self.reading.arm(limits.tls_handshake_timeout),
            Timing::Farewell => self.reading.arm(limits::FIRST_REQUEST_GRACE),
        }
    }

    /// Ready once what was expected of the client is late.
    pub(crate) fn poll_late(&self, cx: &Context<'_>) -> Poll<()> {
        self.reading.poll(cx)
    }

    pub(crate) fn is_answering(&self) -> bool {
        self.under_way.get() > 0
    }

    /// Whether this was the last request that the connection may carry.
    pub(crate) fn is_last_request(&self) -> bool {
        self.leaving.get() || self.worker.sends_away() || self.requests.get() >= self.worker.settings.limits.requests_per_connection
    }

    pub(crate) fn set_unflushed(&self, unflushed: bool) {
        self.unflushed.set(unflushed);
    }

    pub(crate) fn set_held_back(&self, held_back: bool) {
        self.held_back.set(held_back);
    }

    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed.get()
    }

    pub(crate) fn is_mid_head(&self) -> bool {
        self.mid_head.get()
    }

    pub(crate) fn set_mid_head(&self, mid_head: bool) {
        self.mid_head.set(mid_head);
    }

    /// Neither a request nor the beginning of one.
    pub(crate) fn is_idle(&self) -> bool {
        !self.mid_head.get() && !self.unflushed.get() && !self.is_answering()
    }

    pub(crate) fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    /// Close as soon as there is no request, and none on its way.
    pub(crate) fn leave(&self) {
        self.leaving.set(true);
        if self.requests.get() == 0 && matches!(self.timing.get(), Timing::Idle | Timing::Handshake | Timing::Preface) {
            self.reading.arm(limits::FIRST_REQUEST_GRACE);
        }
        self.wake();
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Whether the connection is to leave and may do so: not in mid-head, not with anything still to write, and not without its first request, which may
    /// be on its way; for that, the idle clock is short.
    pub(crate) fn wants_to_end(&self) -> bool {
        self.leaving.get() && !self.mid_head.get() && !self.unflushed.get() && self.requests.get() > 0
    }

    pub(crate) fn set_awaits_head(&self, awaits_head: bool) {
        self.awaits_head.set(awaits_head);
    }

    /// The next thing to come is a head, or nothing.
    fn is_at_rest(&self) -> bool {
        self.awaits_head.get() && self.is_idle()
    }

    pub(crate) fn body_ended(&self) {
        self.unread_body.set(false);
    }

    pub(crate) fn has_unread_body(&self) -> bool {
        self.unread_body.get()
    }

    /// Logs and counts a head that never became a request.
    pub(crate) fn record_refusal(&self, reason: Reason) {
        exchange::record_refusal(self, reason);
    }

    /// Names the task that serves the connection. False: it is known.
    pub(crate) fn remember_waker(&self, waker: &Waker) -> bool {
        let mut known = self.waker.borrow_mut();
        if known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return false;
        }
        *known = Some(waker.clone());
        self.reading.wakes(waker);
        true
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.connections.remove(self.key);
        self.worker.count(|numbers| numbers.connections_open -= 1);
        self.worker.room.notify_waiters();
    }
}
