//! A response's body on its way to the client.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    super::{
        connection::BodyFault,
        error::{ProxyError, Reason},
        exchange::Exchange,
        upstream::Lease,
    },
    ArrivingBody, Events, Progress,
};
use crate::message;

/// A response's body.
pub(crate) struct ResponseBody(Source);

enum Source {
    /// Our own, or nothing.
    Own(Option<Bytes>),
    Backend(Box<Download>),
}

struct Download {
    incoming: ArrivingBody,
    /// Given back to the pool when the body has ended well, dropped and closed otherwise.
    lease: Option<Lease>,
    progress: Progress,
    exchange: Exchange,
    events: Option<Box<Events>>,
    /// To its client, only the end of the connection ends the body.
    close_delimited: bool,
}

impl ResponseBody {
    pub(crate) fn full(body: Bytes) -> Self {
        Self(Source::Own(Some(body).filter(|body| !body.is_empty())))
    }

    pub(crate) fn empty() -> Self {
        Self(Source::Own(None))
    }

    /// The backend's, which carries on the request's record and its connection.
    pub(crate) fn backend(
        incoming: ArrivingBody,
        lease: Lease,
        progress: Progress,
        exchange: Exchange,
        events: Option<Box<Events>>,
        close_delimited: bool,
    ) -> Self {
        Self(Source::Backend(Box::new(Download { incoming, lease: Some(lease), progress, exchange, events, close_delimited })))
    }
}

impl Download {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if self.events.as_ref().is_some_and(|events| events.poll_leave(cx).is_ready()) {
            // As if the backend had ended it, whose connection closes.
            self.lease = None;
            return Poll::Ready(None);
        }
        let waiting = &self.exchange.lane().waiting;
        let frame = match self.incoming.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let worker = self.exchange.worker();
                ready!(self.progress.poll_rested(waiting, worker, worker.settings.limits.response_idle_timeout, cx));
                worker.count(|numbers| numbers.response_stalls += 1);
                self.break_off(Reason::UpstreamTimeout);
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
                // A request that can't be finished costs the backend's connection, too.
                let reason = self.exchange.lane().body_fault().map_or(Reason::UpstreamReset, BodyFault::reason);
                self.break_off(reason);
                Poll::Ready(Some(Err(ProxyError::caused(reason, "reading the response's body", error))))
            }
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.bytes_out += data.len() as u64;
                    if let Some(events) = &mut self.events {
                        events.feed(data);
                    }
                    self.progress.touch(self.exchange.worker().deadlines.now());
                }
                if let Some(trailers) = frame.trailers_mut() {
                    message::strip_trailers(trailers);
                    // Nobody asks for the end after them.
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// The body ends before its time. The client sees that by its framing, or else by a reset.
    fn break_off(&mut self, reason: Reason) {
        self.exchange.broke(reason);
        if self.close_delimited {
            self.exchange.lane().cut_short();
        }
    }

    /// The body has ended well: its connection may serve again, unless part of the request is still unsent.
    fn finish(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if self.progress.is_complete() {
            lease.give_back();
        } else {
            // A connection of its own closes; one that others use goes on, without this request's body.
            self.progress.give_up();
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
