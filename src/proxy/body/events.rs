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
    /// The end of what was passed on: clients drop an event that isn't whole (HTML, "Interpreting an event stream").
    last: [u8; 4],
}

impl Events {
    /// For responses that are such. Only a GET can be asked once more by whoever follows them (`EventSource`); what answers a POST in this form has an end.
    pub(crate) fn of(is_get: bool, headers: &HeaderMap, body: &ArrivingBody, worker: &Rc<Worker>) -> Option<Box<Self>> {
        let may_go_on = is_get && !body.is_end_stream() && body.size_hint().exact().is_none();
        let are_events = may_go_on && message::is_event_stream(headers);
        are_events.then(|| Box::new(Self { open: OpenStream::new(worker), last: *b"\n\n\n\n" }))
    }

    /// This was passed on.
    pub(super) fn feed(&mut self, data: &[u8]) {
        let at = data.len().saturating_sub(self.last.len());
        for byte in data.get(at..).unwrap_or_default() {
            self.last.rotate_left(1);
            self.last[3] = *byte;
        }
    }

    /// Ready when it is time to end it, and nothing is cut in two.
    pub(super) fn poll_leave(&self, cx: &Context<'_>) -> Poll<()> {
        let is_between = matches!(self.last, [.., b'\n', b'\n'] | [.., b'\r', b'\r'] | [b'\r', b'\n', b'\r', b'\n']);
        if is_between { self.open.poll_leave(cx) } else { Poll::Pending }
    }
}
