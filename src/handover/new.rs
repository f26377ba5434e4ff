//! The new process's side: ask, take, say when it serves, and notice the end of the old one.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{
    Kind, Name, Passed, broken,
    channel::Channel,
    message::{Message, PROTOCOL},
};
use crate::config::limits;

/// What came of asking.
#[derive(Debug)]
pub enum Asked {
    /// Nobody is there.
    Alone,
    /// Somebody has taken the name whom we have no business with.
    Stranger {
        /// The user's number.
        uid: u32,
    },
    /// A process of our user is there, and passes nothing on.
    Silent {
        /// What is wrong with it.
        why: String,
    },
    /// Its sockets.
    Offered(Predecessor, Vec<Passed>),
}

/// The running process stays busy: with another new process, or with its own start.
#[derive(Debug, thiserror::Error)]
#[error("the process that runs on this node doesn't hand over within {} s: {why}; end it or that other one, or start again later", limits::HANDOVER_BUSY_WAIT.as_secs())]
pub struct TakeError {
    why: String,
}

/// The old process, which stands by until this is dropped.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    version: String,
    ready: bool,
    keeps_ours: bool,
    standby: bool,
}

/// How one try ended.
enum Try {
    Final(Asked),
    Again(String),
}

/// Asks whoever is at the rendezvous. Errors: it is busy, and stays so.
pub async fn ask(name: &Name) -> Result<Asked, TakeError> {
    let deadline = Instant::now() + limits::HANDOVER_BUSY_WAIT;
    loop {
        match ask_once(name).await {
            Try::Final(asked) => return Ok(asked),
            Try::Again(why) if Instant::now() > deadline => return Err(TakeError { why }),
            Try::Again(why) => {
                tracing::debug!(why, "asking again for the listening sockets");
                sleep(limits::HANDOVER_RETRY).await;
            }
        }
    }
}

async fn ask_once(name: &Name) -> Try {
    let channel = match UnixStream::connect(&name.path).await {
        Ok(stream) => Channel::new(stream),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Try::Final(Asked::Alone),
        // Its queue is full, or a security module is in between: somebody is there.
        Err(error) => return Try::Final(Asked::Silent { why: error.to_string() }),
    };
    match channel.peer() {
        Ok(uid) if name.admits(uid) => {}
        Ok(uid) => return Try::Final(Asked::Stranger { uid }),
        Err(error) => return Try::Final(Asked::Silent { why: error.to_string() }),
    }
    match offer(channel).await {
        Ok(tried) => tried,
        // It was about to end.
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            Try::Again(error.to_string())
        }
        Err(error) => Try::Final(Asked::Silent { why: error.to_string() }),
    }
}

async fn offer(channel: Channel) -> io::Result<Try> {
    channel.send(&Message::Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").into() }, &[]).await?;
    let (version, ready, count, keeps_ours, standby) = match channel.receive(limits::HANDOVER_ANSWER_TIMEOUT).await?.0 {
        Message::Offer { version, ready, sockets, keeps_yours, standby } => (version, ready, sockets, keeps_yours, standby),
        Message::Busy { why } => return Ok(Try::Again(why)),
        Message::Refused { why } => return Ok(Try::Final(Asked::Silent { why })),
        other => return Err(other.out_of_turn()),
    };
    if count > limits::HANDOVER_SOCKETS {
        return Err(broken(format_args!("{count} sockets")));
    }
    let mut sockets = Vec::new();
    while sockets.len() < count {
        match channel.receive(limits::HANDOVER_ANSWER_TIMEOUT).await? {
            (Message::Sockets { kinds }, passed) if kinds.len() == passed.len() && !kinds.is_empty() => {
                sockets.extend(kinds.into_iter().zip(passed).map(|(kind, socket)| Passed { kind, socket }));
            }
            (other, _) => return Err(other.out_of_turn()),
        }
    }
    Ok(Try::Final(Asked::Offered(Predecessor { channel, version, ready, keeps_ours, standby }, sockets)))
}

impl Predecessor {
    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it answers requests by a table, so that there is no hurry to take them from it.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether it serves no more than what is on disk.
    pub fn stands_by(&self) -> bool {
        self.standby
    }

    /// Says where health and metrics are answered now: the old process stops answering there.
    pub async fn adopted(&self, addresses: Vec<SocketAddr>) -> io::Result<()> {
        self.channel.send(&Message::Adopted { addresses }, &[]).await
    }

    /// Says where requests are accepted now, and waits until the old process has stopped accepting there. It gets references to those sockets that it
    /// didn't pass on itself: when this process ends, clients may still be in their queues. (An older version doesn't know what to do with them.)
    pub async fn serving(&self, addresses: Vec<SocketAddr>, fresh: Vec<OwnedFd>) -> io::Result<()> {
        if self.keeps_ours {
            let fresh: Vec<_> = fresh.into_iter().map(|socket| Passed { kind: Kind::Http, socket }).collect();
            self.channel.pass(&fresh).await?;
        }
        self.channel.send(&Message::Serving { addresses }, &[]).await?;
        match self.channel.receive(limits::HANDOVER_STEP_TIMEOUT).await?.0 {
            Message::Yielded => Ok(()),
            other => Err(other.out_of_turn()),
        }
    }

    /// Resolves when it has ended, or begun to: it takes nothing back any more.
    pub async fn ended(&self) {
        self.channel.ended().await;
    }
}
