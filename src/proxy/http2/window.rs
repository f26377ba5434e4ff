//! What a client may send on all streams of a connection before backends have taken it: as much as its uploads may have each, so that those that a backend
//! doesn't read leave the others theirs.

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;
use h2::server::Connection;
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

    /// Makes it as large as the uploads that are under way need, if the worker has as much.
    pub(super) fn fit<T: AsyncRead + AsyncWrite + Unpin>(&mut self, server: &mut Connection<T, Bytes>) {
        let uploads = self.shared.uploads();
        let needed = uploads.saturating_mul(HTTP2_STREAM_WINDOW_BYTES).saturating_sub(HTTP2_CONNECTION_WINDOW_BYTES);
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
