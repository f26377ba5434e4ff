//! What a client may send on all streams of a connection before backends have taken it. What a backend doesn't take isn't to be at the expense of the
//! others: the connection is lent as much again.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use bytes::Bytes;
use h2::{FlowControl, RecvStream, server::Connection};
use tokio::io::{AsyncRead, AsyncWrite};

use super::shared::Shared;
use crate::config::limits::{HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_LENT_WINDOWS_BYTES, HTTP2_STREAM_WINDOW_BYTES};

/// What the connections of a worker have beyond their own.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    lent: Cell<u32>,
}

impl Windows {
    /// False: there isn't as much.
    fn borrow(&self, bytes: u32) -> bool {
        let lent = self.lent.get().checked_add(bytes).filter(|lent| *lent <= HTTP2_LENT_WINDOWS_BYTES);
        self.lent.set(lent.unwrap_or(self.lent.get()));
        lent.is_some()
    }

    fn give_back(&self, bytes: u32) {
        self.lent.set(self.lent.get().saturating_sub(bytes));
    }
}

/// That of one connection.
pub(super) struct Window {
    shared: Rc<Shared>,
    /// What it has borrowed.
    beyond: u32,
}

impl Window {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared), beyond: 0 }
    }

    /// Gives back to a connection what its uploads hold of it, if the worker has as much.
    pub(super) fn fit<T: AsyncRead + AsyncWrite + Unpin>(&mut self, server: &mut Connection<T, Bytes>) {
        let size = HTTP2_CONNECTION_WINDOW_BYTES + self.beyond;
        let Some(held) = self.shared.uploads.held_beyond(size - HTTP2_CONNECTION_WINDOW_BYTES / 2) else { return };
        let needed = held.next_multiple_of(HTTP2_STREAM_WINDOW_BYTES);
        // Never smaller again: what a client was promised can't be taken back, so that it stays in the books as long as the connection.
        if needed > self.beyond && self.shared.connection.worker().windows.borrow(needed - self.beyond) {
            self.beyond = needed;
            server.set_target_window_size(HTTP2_CONNECTION_WINDOW_BYTES + self.beyond);
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.shared.connection.worker().windows.give_back(self.beyond);
    }
}

/// Requests with a body of one connection, and what of theirs no backend has taken.
#[derive(Default)]
pub(super) struct Uploads {
    /// By number.
    streams: RefCell<BTreeMap<u32, FlowControl>>,
    /// What they held when they were last asked.
    held: Cell<u32>,
    /// What has come since.
    arrived: Cell<u32>,
}

impl Uploads {
    /// A piece of this size is about to be theirs.
    pub(super) fn arrives(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.arrived.set(self.arrived.get().saturating_add(bytes));
    }

    /// What they hold, if it is more than so many bytes. They are asked only when it may be.
    fn held_beyond(&self, bytes: u32) -> Option<u32> {
        if self.held.get().saturating_add(self.arrived.get()) <= bytes {
            return None;
        }
        let held: usize = self.streams.borrow().values().map(FlowControl::used_capacity).sum();
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        self.held.set(held);
        self.arrived.set(0);
        (held > bytes).then_some(held)
    }
}

/// One of them, for as long as this is held.
pub(super) struct Upload {
    shared: Rc<Shared>,
    stream: u32,
}

impl Upload {
    pub(super) fn begin(shared: &Rc<Shared>, body: &mut RecvStream) -> Self {
        let stream = body.stream_id().as_u32();
        shared.uploads.streams.borrow_mut().insert(stream, body.flow_control().clone());
        Self { shared: Rc::clone(shared), stream }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.shared.uploads.streams.borrow_mut().remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_has_an_end_and_comes_back() {
        let windows = Windows::default();
        assert!(windows.borrow(HTTP2_LENT_WINDOWS_BYTES - 1));
        assert!(!windows.borrow(2) && windows.borrow(1) && !windows.borrow(1));
        windows.give_back(5);
        assert!(windows.borrow(5) && !windows.borrow(u32::MAX));
    }
}
