//! Server-sent events in the end of their worker: such a response never ends by itself, and its client comes back.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    super::{leave::OpenStream, worker::Worker},
    ArrivingBody,
};
use crate::message;
use http::HeaderMap;

/// A response of server-sent events.
pub(crate) struct Events {
    open: OpenStream,
    /// What was passed on last ended an event: what comes of one that isn't whole, clients drop (HTML, "Interpreting an event stream").
    is_between: bool,
}

impl Events {
    /// For responses that are such.
    pub(crate) fn of(headers: &HeaderMap, body: &ArrivingBody, worker: &Rc<Worker>) -> Option<Box<Self>> {
        let may_go_on = !body.is_end_stream() && body.size_hint().exact().is_none();
        let are_events = may_go_on && message::is_event_stream(headers);
        are_events.then(|| Box::new(Self { open: OpenStream::new(worker), is_between: true }))
    }

    /// This was passed on.
    pub(super) fn feed(&mut self, data: &[u8]) {
        self.is_between = [&b"\n\n"[..], b"\r\r", b"\r\n\r\n"].iter().any(|end| data.ends_with(end));
    }

    /// Ready when it is time to end it, and nothing is cut in two.
    pub(super) fn poll_leave(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_between { self.open.poll_leave(cx) } else { Poll::Pending }
    }
}
