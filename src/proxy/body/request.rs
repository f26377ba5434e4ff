//! A request's body on its way to the backend.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{
    super::{
        connection::{BodyFault, Lane},
        deadline::Deadline,
        error::{ProxyError, Reason},
        worker::Worker,
    },
    ArrivingBody,
};
use crate::message;

/// A request's body. Most requests have none, and pay nothing.
pub(crate) struct RequestBody(Option<Box<Upload>>);

struct Upload {
    incoming: ArrivingBody,
    lane: Rc<Lane>,
    progress: Progress,
    deadline: Deadline,
    /// When the body was first asked for.
    started: Option<Instant>,
}

/// What the other side knows of a request's body.
#[derive(Clone, Default)]
pub(crate) struct Progress(Option<Rc<ProgressCells>>);

#[derive(Default)]
struct ProgressCells {
    bytes: Cell<u64>,
    /// Nobody wants the rest.
    given_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    complete: Cell<bool>,
    moved: Cell<bool>,
    waiting: Cell<bool>,
    /// When something last moved in either direction, of a call; `None`: it is none, and each direction has clocks of its own.
    call: Cell<Option<Instant>>,
}

impl Progress {
    /// Bytes read of the body so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |cells| cells.bytes.get())
    }

    /// All of the body was handed to the backend's connection, or there was none.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.as_ref().is_none_or(|cells| cells.complete.get())
    }

    /// Whether the request has a body at all.
    pub(crate) fn has_body(&self) -> bool {
        self.0.is_some()
    }

    /// The response is over: whoever still sends the body is to stop.
    pub(crate) fn give_up(&self) {
        if let Some(cells) = &self.0 {
            cells.given_up.set(true);
            if let Some(waker) = cells.waker.take() {
                waker.wake();
            }
        }
    }

    /// Of a call, something has moved.
    pub(super) fn touch(&self, now: Instant) {
        if let Some(cells) = &self.0
            && cells.call.get().is_some()
        {
            cells.call.set(Some(now));
        }
    }

    /// It goes where each request holds a connection of its own: then it is none.
    pub(crate) fn clear_call(&self) {
        if let Some(cells) = &self.0 {
            cells.call.set(None);
        }
    }

    fn is_call(&self) -> bool {
        self.0.as_ref().is_some_and(|cells| cells.call.get().is_some())
    }

    /// Ready when one direction has rested for so long; of a call, when both have for as long as a tunnel may.
    pub(super) fn poll_rested(&self, clock: &Deadline, worker: &Worker, within: Duration, cx: &Context<'_>) -> Poll<()> {
        clock.arm_once(within);
        ready!(clock.poll(cx));
        let Some(left) = self.may_rest(worker.deadlines.now(), worker.settings.limits.tunnel_idle_timeout) else { return Poll::Ready(()) };
        clock.arm(left);
        clock.poll(cx)
    }

    /// How much longer a call may rest; `None`: not at all, or it is none.
    fn may_rest(&self, now: Instant, most: Duration) -> Option<Duration> {
        let moved = self.0.as_ref()?.call.get()?;
        most.checked_sub(now.saturating_duration_since(moved)).filter(|left| !left.is_zero())
    }

    /// Whether the request still keeps the backend waiting: bytes have moved since the last call, or the client owes us some, for which there is a clock of
    /// its own.
    pub(crate) fn take_busy(&self) -> bool {
        self.0.as_ref().is_some_and(|cells| cells.moved.replace(false) || cells.waiting.get())
    }
}

impl RequestBody {
    /// `is_call`: messages may come and go in both directions for as long as the two ends like, with pauses.
    pub(crate) fn new(incoming: ArrivingBody, lane: &Rc<Lane>, is_call: bool) -> (Self, Progress) {
        if incoming.is_end_stream() {
            return (Self(None), Progress::default());
        }
        let call = Cell::new(is_call.then(|| lane.worker().deadlines.now()));
        let progress = Progress(Some(Rc::new(ProgressCells { call, ..ProgressCells::default() })));
        let upload = Upload {
            incoming,
            lane: Rc::clone(lane),
            progress: progress.clone(),
            deadline: lane.worker().deadlines.register(),
            started: None,
        };
        (Self(Some(Box::new(upload))), progress)
    }

    /// For a second attempt of a request without a body.
    pub(crate) fn empty() -> Self {
        Self(None)
    }
}

impl Upload {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let polled = self.incoming.poll_frame(cx);
        let Some(cells) = &self.progress.0 else { return Poll::Ready(None) };
        if cells.given_up.get() {
            return Poll::Ready(Some(Err(ProxyError::new(Reason::UpstreamReset, "the response is over"))));
        }
        cells.waiting.set(polled.is_pending());
        if polled.is_pending() {
            cells.waker.replace(Some(cx.waker().clone()));
        }
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.poll_late(cx).map(|error| Some(Err(error))),
        };
        self.deadline.disarm();
        cells.moved.set(true);
        self.progress.touch(self.lane.worker().deadlines.now());
        let mut frame = match frame {
            None => {
                cells.complete.set(true);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                let fault = self.lane.body_fault().unwrap_or_else(|| ArrivingBody::fault(&error));
                self.lane.set_body_fault(fault);
                return Poll::Ready(Some(Err(ProxyError::caused(fault.reason(), "reading the request's body", error))));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            cells.bytes.set(cells.bytes.get() + data.len() as u64);
        }
        // The last frame: nobody asks for the end after it.
        cells.complete.set(frame.is_trailers() || self.incoming.is_end_stream());
        if let Some(trailers) = frame.trailers_mut() {
            message::strip_trailers(trailers);
        }
        if self.is_too_slow(cells.bytes.get()) {
            return Poll::Ready(Some(Err(self.timed_out())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Nothing has come: is it too late already?
    fn poll_late(&mut self, cx: &Context<'_>) -> Poll<ProxyError> {
        let worker = self.lane.worker();
        ready!(self.progress.poll_rested(&self.deadline, worker, worker.settings.limits.body_idle_timeout, cx));
        Poll::Ready(self.timed_out())
    }

    fn is_too_slow(&mut self, bytes: u64) -> bool {
        if self.progress.is_call() {
            return false;
        }
        let worker = self.lane.worker();
        let limits = &worker.settings.limits;
        let now = worker.deadlines.now();
        let elapsed = now.saturating_duration_since(*self.started.get_or_insert(now));
        elapsed > limits.body_rate_grace && bytes / elapsed.as_secs().max(1) < limits.body_min_rate
    }

    fn timed_out(&self) -> ProxyError {
        self.lane.set_body_fault(BodyFault::Timeout);
        self.lane.worker().count(|numbers| numbers.request_timeouts += 1);
        ProxyError::new(Reason::ClientTimeout, "waiting for the request's body")
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match &mut self.get_mut().0 {
            None => Poll::Ready(None),
            Some(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |upload| upload.incoming.size_hint())
    }
}
