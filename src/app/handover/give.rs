//! Handing over: the next process gets references to all listening sockets, this one stops accepting when that one serves, and starts again if it dies.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use tokio::time;
use tracing::{info, warn};

use super::Give;
use crate::{
    config::{AfterHandover, limits},
    handover::{Kind, Passed, Rendezvous, Successor},
    metrics::Handovers,
    proxy,
};

impl Give {
    /// Serves whoever asks, one at a time, until dropped.
    pub(super) async fn keep(self, mut rendezvous: Rendezvous) {
        loop {
            let successor = rendezvous.next().await;
            let Some(proxy) = self.state.proxy.get() else {
                successor.busy("it is starting itself").await;
                continue;
            };
            let Some(sockets) = self.sockets(&rendezvous, proxy).await else {
                successor.busy("its workers don't answer in time").await;
                continue;
            };
            info!(version = successor.version(), sockets = sockets.len(), "a new process asks for the listening sockets");
            let handed = tokio::select! {
                handed = self.hand_over(&successor, sockets, proxy) => handed,
                never = rendezvous.refuse("another new process is taking over") => match never {},
            };
            match handed {
                // The rendezvous is the new process's from here on, for as long as it lives.
                Ok(fresh) => self.stand_by(&successor, proxy, fresh).await,
                Err(error) => {
                    self.take_back(proxy, Vec::new()).await;
                    Handovers::count(&self.line.counts.failed);
                    warn!(%error, "the new process didn't come to serve: going on");
                }
            }
        }
    }

    /// References to every listening socket.
    async fn sockets(&self, rendezvous: &Rendezvous, proxy: &proxy::Handle) -> Option<Vec<Passed>> {
        let http = proxy.share().await?.into_iter().map(|socket| Ok(Passed { kind: Kind::Http, socket }));
        let own = self.sockets.all();
        let own = own.iter().map(|(kind, socket)| Ok(Passed { kind: *kind, socket: socket.as_fd().try_clone_to_owned()? }));
        let all: io::Result<Vec<_>> = http.chain(own).chain([rendezvous.share()]).collect();
        all.inspect_err(|error| warn!(%error, "can't pass the listening sockets on")).ok()
    }

    /// Returns references to the sockets that the new process has bound besides.
    async fn hand_over(&self, successor: &Successor, sockets: Vec<Passed>, proxy: &proxy::Handle) -> io::Result<Vec<OwnedFd>> {
        let adopted = successor.offer(sockets, self.state.not_ready().is_none(), self.stands_by).await?;
        self.line.elsewhere.send_replace(adopted);
        let (addresses, fresh) = successor.serving().await?;
        self.yield_http(proxy, &addresses).await;
        successor.yielded().await?;
        Handovers::count(&self.line.counts.given);
        info!(version = successor.version(), ?addresses, "handed over: the new process accepts");
        Ok(fresh)
    }

    async fn yield_http(&self, proxy: &proxy::Handle, addresses: &[SocketAddr]) {
        if !proxy.yield_to_another(addresses).await {
            warn!("some workers don't answer in time: they stop accepting later");
        }
    }

    /// As long as the new process lives. What was accepted before is served on.
    async fn stand_by(&self, successor: &Successor, proxy: &proxy::Handle, fresh: Vec<OwnedFd>) {
        self.line.standing_by.send_replace(true);
        let settled = match self.after {
            AfterHandover::Wait => false,
            AfterHandover::Exit => time::timeout(limits::HANDOVER_SETTLE, successor.ended()).await.is_err(),
        };
        if settled {
            self.line.superseded.send_replace(true);
        }
        successor.ended().await;
        self.take_back(proxy, fresh).await;
        Handovers::count(&self.line.counts.taken_back);
        warn!("the new process has ended: accepting again");
    }

    /// The `fresh` sockets are accepted from, too: each has a queue of its own, whose clients would be reset with it.
    async fn take_back(&self, proxy: &proxy::Handle, fresh: Vec<OwnedFd>) {
        proxy.take_in(fresh);
        self.line.elsewhere.send_replace(Vec::new());
        self.line.standing_by.send_replace(false);
        if !proxy.yield_to_another(&[]).await {
            warn!("some workers don't answer in time: they accept again later");
        }
    }
}
