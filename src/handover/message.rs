//! What the two processes say to each other, as JSON: unknown fields are skipped, so that either side may be the newer.

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Kind, broken};

/// The version of the conversation. It changes only when an older process would misunderstand.
pub(super) const PROTOCOL: u32 = 1;

/// One message, in the order in which they come.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// New to old: I would take over.
    Hello { protocol: u32, version: String },
    /// Old to new: ask again.
    Busy { why: String },
    /// Old to new: it can't be done.
    Refused { why: String },
    /// Old to new: so many sockets follow. `ready`: requests are answered by a table. `keeps_yours`: it understands [`Message::Sockets`] itself. `standby`: it serves
    /// what is on disk, for want of anybody else.
    Offer {
        version: String,
        ready: bool,
        sockets: usize,
        #[serde(default)]
        keeps_yours: bool,
        #[serde(default)]
        standby: bool,
    },
    /// Old to new: these, one for each descriptor that comes along. New to old, before it serves: those that it has bound besides.
    Sockets { kinds: Vec<Kind> },
    /// New to old: I answer health and metrics at these addresses.
    Adopted { addresses: Vec<SocketAddr> },
    /// New to old: I accept requests at these addresses.
    Serving { addresses: Vec<SocketAddr> },
    /// Old to new: and I no longer do. From here on, the end of the connection says that its side has ended.
    Yielded,
}

impl Message {
    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(broken)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(bytes).map_err(broken)
    }

    /// The complaint about a message that isn't the one whose turn it is.
    pub(super) fn out_of_turn(&self) -> io::Error {
        broken(format_args!("the other process said {self:?} when it wasn't its turn"))
    }
}
