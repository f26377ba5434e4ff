//! The two bodies that pass through: a request's on its way to the backend, a response's on its way to the client. Neither is ever held whole.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    connection::{BodyFault, Connection},
    deadline::Deadline,
    error::{ProxyError, Reason},
    exchange::Exchange,
    upstream::Lease,
};

/// A request's body. Most requests have none, and pay nothing.
pub(crate) struct RequestBody(Option<Box<Upload>>);

struct Upload {
    incoming: Incoming,
    connection: Rc<Connection>,
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
    complete: Cell<bool>,
    touched: Cell<bool>,
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

    /// Whether bytes have moved since the last call.
    pub(crate) fn take_moved(&self) -> bool {
        self.0.as_ref().is_some_and(|cells| cells.touched.replace(false))
    }
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, connection: &Rc<Connection>) -> (Self, Progress) {
        if incoming.is_end_stream() {
            return (Self(None), Progress::default());
        }
        let progress = Progress(Some(Rc::default()));
        let upload = Upload {
            incoming,
            connection: Rc::clone(connection),
            progress: progress.clone(),
            deadline: connection.worker().deadlines.register(),
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
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.poll_late(cx).map(|error| Some(Err(error))),
        };
        self.deadline.disarm();
        let Some(cells) = &self.progress.0 else { return Poll::Ready(None) };
        cells.touched.set(true);
        let frame = match frame {
            None => {
                cells.complete.set(true);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                let reason = match self.connection.body_fault() {
                    Some(BodyFault::Malformed) => Reason::BadRequest,
                    Some(BodyFault::Timeout) => Reason::ClientTimeout,
                    None => Reason::ClientGone,
                };
                return Poll::Ready(Some(Err(ProxyError::caused(reason, "reading the request's body", error))));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            cells.bytes.set(cells.bytes.get() + data.len() as u64);
        }
        // The last frame: nobody asks for the end after it.
        cells.complete.set(self.incoming.is_end_stream());
        if self.is_too_slow(cells.bytes.get()) {
            return Poll::Ready(Some(Err(self.timed_out())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Nothing has come: is it too late already?
    fn poll_late(&mut self, cx: &Context<'_>) -> Poll<ProxyError> {
        self.deadline.arm_once(self.connection.worker().settings.limits.body_idle_timeout);
        ready!(self.deadline.poll(cx));
        Poll::Ready(self.timed_out())
    }

    fn is_too_slow(&mut self, bytes: u64) -> bool {
        let worker = self.connection.worker();
        let limits = &worker.settings.limits;
        let now = worker.deadlines.now();
        let elapsed = now.saturating_duration_since(*self.started.get_or_insert(now));
        elapsed > limits.body_rate_grace && bytes / elapsed.as_secs().max(1) < limits.body_min_rate
    }

    fn timed_out(&self) -> ProxyError {
        self.connection.set_body_fault(BodyFault::Timeout);
        self.connection.worker().count(|numbers| numbers.request_timeouts += 1);
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

/// A response's body.
pub(crate) struct ResponseBody(Source);

enum Source {
    /// Our own, or nothing.
    Own(Option<Bytes>),
    Backend(Box<Download>),
}

struct Download {
    incoming: Incoming,
    /// Given back to the pool when the body has ended well, dropped and closed otherwise.
    lease: Option<Lease>,
    progress: Progress,
    exchange: Exchange,
}

impl ResponseBody {
    pub(crate) fn full(body: Bytes) -> Self {
        Self(Source::Own(Some(body).filter(|body| !body.is_empty())))
    }

    pub(crate) fn empty() -> Self {
        Self(Source::Own(None))
    }

    /// The backend's, which carries on the request's record and its connection.
    pub(crate) fn backend(incoming: Incoming, lease: Lease, progress: Progress, exchange: Exchange) -> Self {
        Self(Source::Backend(Box::new(Download { incoming, lease: Some(lease), progress, exchange })))
    }
}

impl Download {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let waiting = &self.exchange.connection().waiting;
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let worker = self.exchange.connection().worker();
                waiting.arm_once(worker.settings.limits.response_idle_timeout);
                ready!(waiting.poll(cx));
                worker.count(|numbers| numbers.response_stalls += 1);
                self.exchange.broke(Reason::UpstreamTimeout);
                return Poll::Ready(Some(Err(ProxyError::new(Reason::UpstreamTimeout, "waiting for more of the response"))));
            }
        };
        waiting.disarm();
        match frame {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.exchange.broke(Reason::UpstreamReset);
                Poll::Ready(Some(Err(ProxyError::caused(Reason::UpstreamReset, "reading the response's body", error))))
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.bytes_out += data.len() as u64;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// The body has ended well: its connection may serve again, unless part of the request is still unsent.
    fn finish(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if self.progress.is_complete() {
            lease.give_back();
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.exchange.bytes_in = self.progress.bytes();
        if self.incoming.is_end_stream() {
            self.finish();
        }
        if self.lease.is_some() {
            // Neither ended well nor broken off by the backend: its client is gone.
            self.exchange.gave_up();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match &mut self.get_mut().0 {
            Source::Own(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Source::Backend(download) => download.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Own(body) => body.is_none(),
            Source::Backend(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Source::Backend(download) => download.incoming.size_hint(),
        }
    }
}
