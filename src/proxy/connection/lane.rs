//! What one request and its connection tell each other. Over HTTP/1 a connection has one lane, which its requests use one after another; over HTTP/2 each
//! request has one of its own.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    super::{
        deadline::Deadline,
        upgrade::{Tunnel, WebSocket},
        worker::Worker,
    },
    BodyFault, Connection,
};
use crate::config::limits;

/// See above.
pub(crate) struct Lane {
    connection: Rc<Connection>,
    /// Whether the connection has other lanes beside this one.
    multiplexed: bool,
    /// When the head of the current request was complete.
    head_at: Cell<Instant>,
    body_fault: Cell<Option<BodyFault>>,
    /// The current response can only end with the connection, and ended before its time.
    cut_short: Cell<bool>,
    /// For whatever the current request waits for: a connection, the first byte of a response, the next. Over HTTP/1, between two requests: for when the
    /// connection counts as idle.
    pub(crate) waiting: Deadline,
    /// Where the request goes when the backend has switched protocols.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
    /// What is needed for that over HTTP/2.
    pub(crate) websocket: RefCell<Option<WebSocket>>,
}

impl Lane {
    /// The one of an HTTP/1 connection.
    pub(crate) fn http1(connection: Rc<Connection>) -> Rc<Self> {
        let lane = Self::new(connection, false);
        // It may be one that a browser has opened in advance.
        lane.waiting.arm(limits::IDLE_AFTER);
        Rc::new(lane)
    }

    /// One for the request of an HTTP/2 stream, whose head is complete now.
    pub(crate) fn http2(connection: Rc<Connection>) -> Rc<Self> {
        connection.request_began();
        let lane = Self::new(connection, true);
        lane.head_at.set(Instant::now());
        Rc::new(lane)
    }

    fn new(connection: Rc<Connection>, multiplexed: bool) -> Self {
        let deadlines = &connection.worker.deadlines;
        Self {
            multiplexed,
            head_at: Cell::new(deadlines.now()),
            body_fault: Cell::new(None),
            cut_short: Cell::new(false),
            waiting: deadlines.register(),
            tunnel: RefCell::new(None),
            websocket: RefCell::new(None),
            connection,
        }
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.connection.worker
    }

    /// HTTP/1: a whole head was handed to the server.
    pub(crate) fn message_began(&self, has_body: bool) {
        self.connection.message_began(has_body);
        self.head_at.set(Instant::now());
        self.body_fault.set(None);
        self.waiting.disarm();
    }

    /// The response to the current request is complete, or given up.
    pub(crate) fn done(&self) {
        self.connection.request_done();
        if !self.multiplexed {
            self.waiting.arm(limits::IDLE_AFTER);
            self.connection.message_done();
        }
    }

    /// Ready once the last response is complete for [`limits::IDLE_AFTER`] and nothing has come since: the next thing to come is a head, or nothing.
    pub(super) fn poll_rest(&self, cx: &Context<'_>) -> Poll<()> {
        if self.connection.is_at_rest() { self.waiting.poll(cx) } else { Poll::Pending }
    }

    /// Names the task that serves the connection.
    pub(crate) fn remember_waker(&self, waker: &Waker) {
        if self.connection.remember_waker(waker) {
            // A request that we answer ourselves waits for nothing, and still makes the connection idle after a while.
            self.waiting.wakes(waker);
        }
    }

    pub(crate) fn head_at(&self) -> Instant {
        self.head_at.get()
    }

    pub(crate) fn set_body_fault(&self, fault: BodyFault) {
        self.body_fault.set(Some(fault));
    }

    pub(crate) fn body_fault(&self) -> Option<BodyFault> {
        self.body_fault.get()
    }

    /// The response under way won't be finished, and its client can't tell by its framing: only a reset says so.
    pub(crate) fn cut_short(&self) {
        self.cut_short.set(true);
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.get()
    }
}
