//! The old process's side: keep the rendezvous, offer the sockets, and notice the end of the new one.

use std::{
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener as StdListener,
    },
};

use tokio::{net::UnixListener, task::JoinSet, time};

use super::{
    Kind, Name, Passed, broken,
    channel::Channel,
    message::{Message, PROTOCOL},
};
use crate::config::limits;

/// The rendezvous, where new processes ask.
#[derive(Debug)]
pub struct Rendezvous {
    listener: UnixListener,
    name: Name,
    /// Connections that haven't said anything yet.
    greetings: JoinSet<Option<Successor>>,
    warned: bool,
}

/// A new process that asks.
#[derive(Debug)]
pub struct Successor {
    channel: Channel,
    version: String,
}

impl Rendezvous {
    /// Takes the name. Errors: somebody has it, above all.
    pub fn bind(name: Name) -> io::Result<Self> {
        Ok(Self::new(UnixListener::bind(&name.path)?, name))
    }

    /// Takes it over from the old process.
    pub fn adopt(socket: OwnedFd, name: Name) -> io::Result<Self> {
        let listener = StdListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Self::new(UnixListener::from_std(listener)?, name))
    }

    fn new(listener: UnixListener, name: Name) -> Self {
        Self { listener, name, greetings: JoinSet::new(), warned: false }
    }

    /// Another reference to its socket.
    pub fn share(&self) -> io::Result<Passed> {
        Ok(Passed { kind: Kind::Rendezvous, socket: self.listener.as_fd().try_clone_to_owned()? })
    }

    /// The next process that asks. Whoever connects and says something else, or nothing, is none.
    pub async fn next(&mut self) -> Successor {
        loop {
            tokio::select! {
                Some(greeted) = self.greetings.join_next(), if !self.greetings.is_empty() => {
                    if let Ok(Some(successor)) = greeted {
                        return successor;
                    }
                }
                accepted = self.listener.accept(), if self.greetings.len() < limits::HANDOVER_GREETINGS => match accepted {
                    Ok((stream, _)) => self.greet(Channel::new(stream)),
                    Err(error) => {
                        tracing::warn!(%error, name = %self.name, "can't accept at the rendezvous; trying again");
                        time::sleep(limits::HANDOVER_RETRY).await;
                    }
                },
            }
        }
    }

    /// Tells everybody who asks to ask again later, until this is dropped.
    pub async fn refuse(&mut self, why: &str) -> std::convert::Infallible {
        loop {
            self.next().await.busy(why).await;
        }
    }

    fn greet(&mut self, channel: Channel) {
        match channel.peer() {
            Ok(uid) if self.name.admits(uid) => {
                self.greetings.spawn(async move {
                    let successor = greeting(channel).await;
                    successor.inspect_err(|error| tracing::debug!(%error, "somebody at the rendezvous who isn't a new process")).ok()
                });
            }
            Ok(uid) if !std::mem::replace(&mut self.warned, true) => {
                tracing::warn!(uid, name = %self.name, "a process of another user asks for our listening sockets: it gets none");
            }
            Ok(_) | Err(_) => {}
        }
    }
}

async fn greeting(channel: Channel) -> io::Result<Successor> {
    match channel.receive(limits::HANDOVER_STEP_TIMEOUT).await?.0 {
        Message::Hello { protocol: PROTOCOL, version } => Ok(Successor { channel, version }),
        Message::Hello { protocol, .. } => {
            let why = format!("it speaks version {PROTOCOL} of the handover, not {protocol}");
            channel.send(&Message::Refused { why: why.clone() }, &[]).await?;
            Err(broken(why))
        }
        other => Err(other.out_of_turn()),
    }
}

impl Successor {
    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tells it to ask again later.
    pub async fn busy(self, why: &str) {
        // It may be gone, which is as well.
        let _ = self.channel.send(&Message::Busy { why: why.into() }, &[]).await;
    }

    /// Gives it references to the sockets, and waits until it answers health and metrics: at which addresses.
    /// The references end here: one that lived longer would keep a socket open that its workers have closed.
    pub async fn offer(&self, sockets: Vec<Passed>, ready: bool, standby: bool) -> io::Result<Vec<SocketAddr>> {
        if sockets.len() > limits::HANDOVER_SOCKETS {
            let why = format!("{} sockets are more than it passes on", sockets.len());
            self.channel.send(&Message::Refused { why: why.clone() }, &[]).await?;
            return Err(broken(why));
        }
        let offer = Message::Offer { version: env!("CARGO_PKG_VERSION").into(), ready, sockets: sockets.len(), keeps_yours: true, standby };
        self.channel.send(&offer, &[]).await?;
        self.channel.pass(&sockets).await?;
        drop(sockets);
        match self.channel.receive(limits::HANDOVER_STEP_TIMEOUT).await?.0 {
            Message::Adopted { addresses } => Ok(addresses),
            other => Err(other.out_of_turn()),
        }
    }

    /// Waits until it accepts requests: at which addresses, and from which sockets that it wasn't passed. That is when it has its first table, which may take as long as an outage of the API server;
    /// the kubelet ends it before, or it ends by itself, and either is an error here.
    pub async fn serving(&self) -> io::Result<(Vec<SocketAddr>, Vec<OwnedFd>)> {
        let mut fresh = Vec::new();
        loop {
            match self.channel.receive_whenever().await? {
                (Message::Serving { addresses }, _) => return Ok((addresses, fresh)),
                (Message::Sockets { .. }, sockets) if fresh.len() + sockets.len() <= limits::HANDOVER_SOCKETS => fresh.extend(sockets),
                (other, _) => return Err(other.out_of_turn()),
            }
        }
    }

    /// Says that nothing is accepted any more where it serves.
    pub async fn yielded(&self) -> io::Result<()> {
        self.channel.send(&Message::Yielded, &[]).await
    }

    /// Resolves when it has ended, or begun to.
    pub async fn ended(&self) {
        self.channel.ended().await;
    }
}
