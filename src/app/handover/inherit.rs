//! Taking over: what the process that runs here already passes on, and what to do where it doesn't.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::Arc,
};

use anyhow::{Context, bail};
use rustix::net::sockopt::socket_acceptconn;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{super::serve::name, Sockets};
use crate::{
    admin::{self, Listener, Scope},
    config::{Handover, limits},
    handover::{Asked, Kind, Name, Passed, Predecessor, Rendezvous, ask},
    proxy,
};

/// What there is to start from: nothing, as a rule.
#[derive(Debug, Default)]
pub(in crate::app) struct Inherited {
    pub(super) name: Option<Name>,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) rendezvous: Option<OwnedFd>,
    /// The rendezvous of a process that has stood by, and has taken it before anything else.
    pub(super) taken: Option<Rendezvous>,
    pub(super) admin: Vec<TcpListener>,
    pub(super) metrics: Vec<TcpListener>,
    pub(super) http: proxy::Inherited,
    /// What can't be bound before another process ends.
    pub(super) late: Vec<(SocketAddr, Scope)>,
    /// Whether it was said that there can be no rendezvous yet.
    pub(super) warned: bool,
}

/// Asks the process that runs here. Errors: it is busy handing over to yet another one, or stands by and doesn't give way.
pub(in crate::app) async fn inherit(settings: &Handover) -> anyhow::Result<Inherited> {
    let mut inherited = Inherited { name: settings.name.as_deref().map(Name::new), ..Inherited::default() };
    let Some(name) = &inherited.name else { return Ok(inherited) };
    let mut asked = ask(name).await?;
    let mut of_standby = false;
    if let (Asked::Alone, Some(standby)) = (&asked, &settings.standby) {
        (asked, of_standby) = (ask(&Name::new(standby)).await?, true);
    }
    match asked {
        Asked::Alone => {}
        Asked::Stranger { uid } => {
            inherited.warned = true;
            warn!(uid, %name, "a process of another user is at our rendezvous: it is ignored, and nothing can be handed over while it is there");
        }
        Asked::Silent { why } if of_standby => bail!(
            "the process that stands by on this node, and serves, doesn't hand its sockets over: {why}; end it (the static pod or unit nodegate-standby): what it \
             serves is old, and nobody else would"
        ),
        Asked::Silent { why } => {
            (inherited.warned, inherited.http.beside) = (true, true);
            warn!(
                why,
                %name,
                "the process that runs here doesn't hand its sockets over: binding beside it; until it ends, it keeps its share of the \
                 connections, and if it hangs they do, too"
            );
        }
        Asked::Offered(predecessor, sockets) => {
            info!(version = predecessor.version(), sockets = sockets.len(), "taking over from the process that runs here");
            inherited.predecessor = Some(predecessor);
            for passed in sockets {
                inherited.sort(passed);
            }
            if of_standby {
                // Nobody stands by there any more, and this process is met elsewhere.
                inherited.rendezvous = None;
            }
        }
    }
    Ok(inherited)
}

impl Inherited {
    /// What a process has that stands by: nothing but its rendezvous.
    pub(in crate::app) fn standing_by(name: Name, taken: Rendezvous) -> Self {
        Self { name: Some(name), taken: Some(taken), ..Self::default() }
    }

    fn sort(&mut self, Passed { kind, socket }: Passed) {
        let listeners = match kind {
            Kind::Rendezvous => {
                self.rendezvous = Some(socket);
                return;
            }
            Kind::Http => &mut self.http.sockets,
            Kind::Admin => &mut self.admin,
            Kind::Metrics => &mut self.metrics,
        };
        let listener = TcpListener::from(socket);
        let usable = socket_acceptconn(&listener).map_err(io::Error::from);
        match usable.and_then(|listens| listener.set_nonblocking(true).and_then(|()| listener.local_addr()).map(|_| listens)) {
            Ok(true) => listeners.push(listener),
            Ok(false) => warn!(?kind, "a socket that was passed on doesn't listen"),
            Err(error) => warn!(%error, ?kind, "a socket that was passed on is of no use"),
        }
    }

    /// The HTTP sockets, once.
    pub(in crate::app) fn take_http(&mut self) -> proxy::Inherited {
        let beside = self.http.beside;
        proxy::Inherited { beside, ..std::mem::take(&mut self.http) }
    }

    /// The admin listener, and the one for metrics if there shall be one. What a hanging process holds comes later, when the kubelet has ended that.
    pub(in crate::app) async fn listen(&mut self, admin: SocketAddr, metrics: Option<SocketAddr>) -> anyhow::Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for (address, scope) in [(Some(admin), Scope::Admin), (metrics, Scope::Metrics)] {
            let Some(address) = address else { continue };
            match self.listen_one(address, scope).await {
                Ok(listener) => listeners.push(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.http.beside => {
                    warn!(listener = name(scope), %address, "another process still has the address: listening there as soon as it is free");
                    self.late.push((address, scope));
                }
                Err(error) => return Err(error).with_context(|| format!("can't listen on {} {address}", name(scope))),
            }
        }
        Ok(listeners)
    }

    async fn listen_one(&mut self, address: SocketAddr, scope: Scope) -> io::Result<Listener> {
        let passed = match scope {
            Scope::Admin => &mut self.admin,
            Scope::Metrics => &mut self.metrics,
        };
        match passed.iter().position(|socket| socket.local_addr().is_ok_and(|known| known == address)) {
            Some(index) => Listener::adopt(passed.swap_remove(index), scope),
            None => Listener::bind(address, scope).await,
        }
    }
}

/// Listens as soon as another process doesn't. Without an end: until then this process can't be asked for anything, which its kubelet notices.
pub(super) async fn listen_later(address: SocketAddr, scope: Scope, sockets: Sockets, state: Arc<admin::State>) {
    let listener = loop {
        sleep(limits::HANDOVER_RETRY).await;
        match Listener::bind(address, scope).await {
            Ok(listener) => break listener,
            Err(error) => debug!(%error, %address, "still can't listen"),
        }
    };
    info!(listener = name(scope), %address, "listening");
    sockets.add(&listener);
    listener.serve(state).await;
}

/// Takes the name as soon as nobody else has it. `quiet`: it was said already that somebody has.
pub(super) async fn bind_rendezvous(name: Name, mut quiet: bool) -> Rendezvous {
    loop {
        match Rendezvous::bind(name.clone()) {
            Ok(rendezvous) => return rendezvous,
            Err(error) if !std::mem::replace(&mut quiet, true) => {
                warn!(%error, %name, "can't take the rendezvous: nothing can be handed over until that is possible");
            }
            Err(_) => {}
        }
        sleep(limits::HANDOVER_RETRY).await;
    }
}
