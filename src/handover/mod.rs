//! Two processes on one node: the new one asks the old one for its listening sockets over an abstract unix socket, the rendezvous. What is here is the
//! conversation; who stops and who starts accepting, and when, is for `app` to say.

mod channel;
mod message;
mod new;
mod old;

use std::{fmt, io, os::fd::OwnedFd};

use serde::{Deserialize, Serialize};

pub use self::{
    new::{Asked, Predecessor, TakeError, ask},
    old::{Rendezvous, Successor},
};

/// Where the two meet. An abstract socket belongs to a network namespace, not to a file system: pods in the host's network meet without a directory that
/// both have mounted. It has no owner either, so that the user is part of the name, and both sides look at each other's (SO_PEERCRED).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    path: String,
    uid: u32,
}

impl Name {
    /// The rendezvous of this process's user with that name.
    pub fn new(name: &str) -> Self {
        Self::of_user(rustix::process::geteuid().as_raw(), name)
    }

    fn of_user(uid: u32, name: &str) -> Self {
        // The zero byte makes it abstract (unix(7)).
        Self { path: format!("\0nodegate/handover/{uid}/{name}"), uid }
    }

    /// Whether somebody of that user is to be trusted with sockets, or with our offering them.
    fn admits(&self, uid: u32) -> bool {
        self.uid == uid
    }
}

impl fmt::Display for Name {
    /// As `ss -xl` shows it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.path.replace('\0', "@"))
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Clients' requests.
    Http,
    /// The admin listener.
    Admin,
    /// The metrics listener.
    Metrics,
    /// The rendezvous itself: so its name is never without an owner.
    Rendezvous,
}

/// A listening socket on its way from one process to the other. Where it listens, the socket itself says.
#[derive(Debug)]
pub struct Passed {
    /// What it is for.
    pub kind: Kind,
    /// The socket. Closing it closes nothing but this reference to it.
    pub socket: OwnedFd,
}

fn broken(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

#[cfg(test)]
mod tests;
