//! The listening sockets of one worker: which are open, and at which addresses another process accepts in its stead.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use tokio::{
    net::TcpListener,
    sync::{Notify, futures::Notified},
};

/// See above.
#[derive(Default)]
pub(crate) struct Listeners {
    /// Those that aren't closed yet: what waits in their queues is still to be taken in.
    open: RefCell<Vec<Rc<TcpListener>>>,
    /// Where another process accepts, from the same sockets.
    yielded: RefCell<Vec<SocketAddr>>,
    /// Whether it does so anywhere.
    stands_by: Cell<bool>,
    /// Rung when that changes.
    changed: Notify,
}

impl Listeners {
    pub(crate) fn open(&self, listener: &Rc<TcpListener>) {
        self.open.borrow_mut().push(Rc::clone(listener));
    }

    pub(crate) fn close(&self, listener: &Rc<TcpListener>) {
        self.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, listener));
    }

    /// Whether another one is open at that one's address. None is any more when the worker has drained.
    pub(crate) fn serves(&self, listener: &std::net::TcpListener) -> bool {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        listener.local_addr().is_ok_and(|wanted| self.open.borrow().iter().any(|open| address(open) == Some(wanted)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// References to all of them, for another process.
    pub(crate) fn share(&self) -> io::Result<Vec<OwnedFd>> {
        self.open.borrow().iter().map(|listener| listener.as_fd().try_clone_to_owned()).collect()
    }

    /// Stops accepting at these addresses, and starts again at all others.
    pub(crate) fn yield_to(&self, addresses: Vec<SocketAddr>) {
        self.stands_by.set(!addresses.is_empty());
        *self.yielded.borrow_mut() = addresses;
        self.changed.notify_waiters();
    }

    /// Whether another process accepts at the address.
    pub(crate) fn has_yielded(&self, address: SocketAddr) -> bool {
        self.yielded.borrow().contains(&address)
    }

    /// Whether another process accepts for us, so that clients had better reconnect.
    pub(crate) fn stands_by(&self) -> bool {
        self.stands_by.get()
    }

    /// Resolves when somebody else begins to accept, or ceases to, after this call.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}
