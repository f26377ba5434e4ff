//! What comes behind a head, over either version of HTTP.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::super::connection::BodyFault;

/// A body as its connection delivers it.
pub(crate) enum ArrivingBody {
    Http1(Incoming),
    Http2(Receiving),
}

/// Why it ends before its time.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What comes on a stream of HTTP/2.
pub(crate) struct Receiving {
    stream: RecvStream,
    /// What is left of a length that was announced.
    left: Option<u64>,
    /// Whom to tell that the client may go on, where it waits for that.
    awaits_continue: Option<Rc<RefCell<SendResponse<Bytes>>>>,
}

impl ArrivingBody {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match self {
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Http2(receiving) => receiving.poll_frame(cx).map_err(Into::into),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(receiving) => receiving.stream.is_end_stream(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(receiving) => receiving.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }

    /// What an error means that nobody has found the reason for.
    pub(super) fn fault(error: &Cause) -> BodyFault {
        match error.downcast_ref::<h2::Error>() {
            // Its stream or its connection has ended, by whomever; what we find wrong with its length is a reset of ours.
            Some(error) if error.is_io() || error.is_remote() => BodyFault::Gone,
            // Without a reason, the server alone has found something.
            Some(_) | None => BodyFault::Malformed,
        }
    }
}

impl Receiving {
    /// What follows this head. `awaits_continue` tells the client that it may go on, if it waits for that.
    pub(crate) fn new(stream: RecvStream, head: &HeaderMap, awaits_continue: Option<Rc<RefCell<SendResponse<Bytes>>>>) -> Self {
        // Of what has no body, a length tells something else. The library has seen to it that all of them agree, and that they are numbers.
        let length = || head.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let left = if stream.is_end_stream() { Some(0) } else { length() };
        Self { stream, left, awaits_continue }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(respond) = self.awaits_continue.take()
            && !self.stream.is_end_stream()
        {
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::CONTINUE;
            // A stream that has ended meanwhile says so when it is read.
            let _ = respond.borrow_mut().send_informational(interim);
        }
        if let Some(data) = ready!(self.poll_data(cx)?) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        self.stream.poll_trailers(cx).map(|trailers| trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    /// The next piece, which the client may send as much again for. `None`: there are none.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, h2::Error>> {
        let Some(data) = ready!(self.stream.poll_data(cx)?) else { return Poll::Ready(Ok(None)) };
        // Fails only for more than there was.
        let _ = self.stream.flow_control().release_capacity(data.len());
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Poll::Ready(Ok(Some(data)))
    }
}
