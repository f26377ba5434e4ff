//! A process between the one before it on the same node and the one after: who accepts when. ([`crate::handover`] is how they talk.)

mod give;
mod inherit;

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time,
};
use tracing::{info, warn};

pub(super) use self::inherit::{Inherited, inherit};
use crate::{
    admin::{self, Listener, Scope},
    config::{AfterHandover, limits},
    handover::{Kind, Name, Predecessor, Rendezvous},
    metrics::Handovers,
    proxy,
    source::Report,
};

/// What this module tells the rest of the process.
#[derive(Debug)]
pub(super) struct Line {
    elsewhere: watch::Sender<Vec<SocketAddr>>,
    predecessor_serves: watch::Sender<bool>,
    superseded: watch::Sender<bool>,
    /// Another process serves in this one's place.
    standing_by: watch::Sender<bool>,
    counts: Arc<Handovers>,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            elsewhere: watch::Sender::default(),
            predecessor_serves: watch::Sender::default(),
            superseded: watch::Sender::default(),
            standing_by: watch::Sender::default(),
            counts: Arc::default(),
        }
    }

    /// The ends that the admin pages look at.
    pub(super) fn shown(&self) -> admin::Succession {
        admin::Succession {
            answered_elsewhere: self.elsewhere.subscribe(),
            predecessor_serves: self.predecessor_serves.subscribe(),
            counts: Arc::clone(&self.counts),
        }
    }
}

/// The admin and metrics sockets, for the next process.
#[derive(Debug, Clone, Default)]
struct Sockets(Arc<Mutex<Vec<Own>>>);

type Own = (Kind, Arc<TcpListener>);

impl Sockets {
    fn add(&self, listener: &Listener) {
        let kind = match listener.scope() {
            Scope::Admin => Kind::Admin,
            Scope::Metrics => Kind::Metrics,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((kind, listener.socket()));
    }

    fn all(&self) -> Vec<Own> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.all().iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect()
    }
}

/// This process's place in the line. Dropping it gives the place up: the one before takes back.
pub(super) struct Relay {
    predecessor: Option<Predecessor>,
    /// The rendezvous, until this process serves.
    inherited: Option<Rendezvous>,
    give: Give,
    tasks: JoinSet<()>,
    /// Waits for the predecessor's end.
    watching: Option<AbortHandle>,
    /// Answer health and metrics, or leave them to another process.
    answering: Vec<AbortHandle>,
}

/// What handing over takes.
#[derive(Clone)]
struct Give {
    state: Arc<admin::State>,
    sockets: Sockets,
    line: Arc<Line>,
    after: AfterHandover,
    /// It serves what is on disk, for want of anybody else.
    stands_by: bool,
}

impl Relay {
    /// Begins to answer health and metrics, now or where another process still does so once that has ended, and tells the process before. From here on
    /// another one may ask.
    pub(super) async fn join(
        inherited: Inherited,
        listeners: Vec<Listener>,
        line: Line,
        state: &Arc<admin::State>,
        after: AfterHandover,
    ) -> Self {
        let Inherited { name, predecessor, rendezvous, taken, late, warned, admin: _, metrics: _, http: _ } = inherited;
        let stands_by = taken.is_some();
        let give = Give { state: Arc::clone(state), sockets: Sockets::default(), line: Arc::new(line), after, stands_by };
        let mut relay = Self { predecessor, inherited: None, give, tasks: JoinSet::new(), watching: None, answering: Vec::new() };
        for listener in listeners {
            relay.give.sockets.add(&listener);
            relay.answering.push(tokio::spawn(listener.serve(Arc::clone(state))).abort_handle());
        }
        for (address, scope) in late {
            tokio::spawn(inherit::listen_later(address, scope, relay.give.sockets.clone(), Arc::clone(state)));
        }
        if let Some(predecessor) = &relay.predecessor {
            relay.give.line.predecessor_serves.send_replace(predecessor.is_ready());
            if let Err(error) = predecessor.adopted(relay.give.sockets.addresses()).await {
                warn!(%error, "the process before this one has ended meanwhile");
                relay.forget_predecessor();
            }
        }
        match taken {
            Some(taken) => relay.give_at(taken),
            None => relay.keep(name, rendezvous, warned),
        }
        relay
    }

    /// The rendezvous: one that was passed on stays the old process's until this one serves.
    fn keep(&mut self, name: Option<Name>, passed: Option<OwnedFd>, quiet: bool) {
        let Some(name) = name else { return };
        if let Some(Ok(rendezvous)) = passed.map(|socket| Rendezvous::adopt(socket, name.clone())) {
            self.inherited = Some(rendezvous);
        } else {
            let give = self.give.clone();
            self.tasks.spawn(async move { give.keep(inherit::bind_rendezvous(name, quiet).await).await });
        }
    }

    fn forget_predecessor(&mut self) {
        self.predecessor = None;
        self.give.line.predecessor_serves.send_replace(false);
    }

    /// Until there is a table, connections wait in the listening queue; but not for ever, unless somebody serves meanwhile who has one.
    pub(super) async fn first_table(&mut self, mut report: watch::Receiver<Report>) {
        if let Some(predecessor) = self.predecessor.as_ref().filter(|predecessor| predecessor.is_ready()) {
            tokio::select! {
                // Whoever serves knows more than what is on disk, or just that.
                ready = report.wait_for(|report| report.is_live() || (predecessor.stands_by() && report.ready)) => if ready.is_ok() { return },
                () = predecessor.ended() => {}
            }
            warn!("the process before this one has ended before there was a table here");
            self.forget_predecessor();
        }
        let ready = time::timeout(limits::FIRST_TABLE_WAIT, report.wait_for(|report| report.ready)).await;
        if !matches!(ready, Ok(Ok(_))) {
            warn!("no complete configuration yet: answering 503 until there is one");
        }
    }

    /// The workers accept: tells the process before to stop, lends it the `fresh` sockets, which it hasn't, and is ready for the one after.
    pub(super) fn serving(&mut self, proxy: proxy::Handle, addresses: Vec<SocketAddr>, fresh: Vec<OwnedFd>) {
        let give = self.give.clone();
        let (predecessor, rendezvous) = (self.predecessor.take(), self.inherited.take());
        let task = async move {
            if let Some(predecessor) = &predecessor {
                match predecessor.serving(addresses, fresh).await {
                    Ok(()) => {
                        Handovers::count(&give.line.counts.taken);
                        info!(version = predecessor.version(), "taken over: the process before this one has stopped accepting");
                    }
                    Err(error) => warn!(%error, "the process before this one doesn't say that it has stopped accepting"),
                }
            }
            // Set once, here.
            let _ = give.state.proxy.set(proxy);
            info!(version = env!("CARGO_PKG_VERSION"), "serving");
            let outlive = async {
                let Some(predecessor) = predecessor else { return };
                predecessor.ended().await;
                give.line.predecessor_serves.send_replace(false);
                info!("the process before this one has ended");
            };
            outlive.await;
        };
        self.watching = Some(self.tasks.spawn(task));
        if let Some(rendezvous) = rendezvous {
            self.give_at(rendezvous);
        }
    }

    fn give_at(&mut self, rendezvous: Rendezvous) {
        let give = self.give.clone();
        self.tasks.spawn(async move { give.keep(rendezvous).await });
    }

    /// Resolves when another process has taken over for good, and this one shall end by itself.
    pub(super) async fn superseded(&self) {
        // Can't fail: the sender is our own.
        let _ = self.give.line.superseded.subscribe().wait_for(|superseded| *superseded).await;
    }

    /// This process is about to drain. A process before it that still stands by takes back at once, health and metrics included. Returns whether another
    /// process, that one or the next, serves on this node now.
    pub(super) fn leave(self) -> bool {
        let predecessor = self.watching.as_ref().is_some_and(|watching| !watching.is_finished());
        if predecessor {
            info!("leaving to the process before this one");
            self.give.line.elsewhere.send_replace(self.give.sockets.addresses());
        }
        let succeeded = *self.give.line.standing_by.borrow();
        let served = predecessor || succeeded;
        if succeeded {
            // Nothing is taken back any more. If that process dies, the next one has to find its addresses free.
            self.answering.iter().for_each(AbortHandle::abort);
        }
        drop(self);
        served
    }
}
