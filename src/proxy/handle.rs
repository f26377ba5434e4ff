//! What the rest of the process asks the workers, and tells them.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use super::worker::Command;
use crate::{config::limits, metrics::Numbers};

/// The running data plane.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: Arc<[mpsc::UnboundedSender<Command>]>,
    /// Closed when the last worker has ended.
    finished: watch::Receiver<()>,
}

/// What is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    /// Client connections.
    pub connections: u64,
    /// Those of them over HTTP/1 that wait for a request.
    pub idle: u64,
    /// Requests without a complete response.
    pub requests: u64,
    /// WebSockets.
    pub tunnels: u64,
    /// Workers that didn't answer in time, and are missing from the sums.
    pub missing_workers: usize,
}

impl Open {
    /// Of one worker.
    pub(super) fn of(numbers: &Numbers) -> Self {
        let Numbers { connections_open, connections_idle, active_requests, tunnels_open, .. } = numbers;
        Self {
            connections: *connections_open,
            idle: *connections_idle,
            // Each tunnel was one, and still counts as such.
            requests: active_requests.saturating_sub(*tunnels_open),
            tunnels: *tunnels_open,
            missing_workers: 0,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            idle: self.idle + other.idle,
            requests: self.requests + other.requests,
            tunnels: self.tunnels + other.tunnels,
            missing_workers: self.missing_workers + other.missing_workers,
        }
    }
}

impl Handle {
    pub(super) fn new(commands: Arc<[mpsc::UnboundedSender<Command>]>, finished: watch::Receiver<()>) -> Self {
        Self { commands, finished }
    }

    /// A copy of every worker's numbers, and how many workers didn't answer in time.
    pub async fn numbers(&self) -> (Vec<Numbers>, usize) {
        let numbers = self.ask(Command::Numbers).await;
        let missing = self.commands.len() - numbers.len();
        (numbers, missing)
    }

    /// What is under way.
    pub async fn open(&self) -> Open {
        let each = self.ask(Command::Open).await;
        let missing_workers = self.commands.len() - each.len();
        each.into_iter().fold(Open { missing_workers, ..Open::default() }, Open::and)
    }

    /// References to the listening sockets of all workers, for another process. `None` if not all of them could answer in time: a socket that were
    /// missing would be accepted from by nobody.
    pub async fn share(&self) -> Option<Vec<OwnedFd>> {
        let shared = self.ask(Command::Share).await;
        if shared.len() < self.commands.len() {
            return None;
        }
        shared.into_iter().collect::<io::Result<Vec<_>>>().ok().map(|sockets| sockets.into_iter().flatten().collect())
    }

    /// Stops accepting at these addresses, where another process accepts from the same sockets, and accepts at all others; with none, everywhere again.
    /// While there are any, each client's next response asks it to reconnect. False if not all workers said in time that they do so.
    pub async fn yield_to_another(&self, addresses: &[SocketAddr]) -> bool {
        self.ask(|reply| Command::Yield(addresses.to_vec(), reply)).await.len() == self.commands.len()
    }

    /// Accepts from these sockets, too, which another process has bound at the same addresses. One at any other address is closed.
    pub fn take_in(&self, sockets: Vec<OwnedFd>) {
        for (socket, worker) in sockets.into_iter().zip(self.commands.iter().cycle()) {
            // A worker that has ended serves nobody.
            let _ = worker.send(Command::Listen(socket.into()));
        }
    }

    /// What every worker answers that does so in time.
    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let replies: Vec<_> = self
            .commands
            .iter()
            .map(|commands| {
                let (sender, receiver) = oneshot::channel();
                commands.send(command(sender)).map(|()| receiver)
            })
            .collect();
        let deadline = Instant::now() + limits::SCRAPE_TIMEOUT;
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies.into_iter().flatten() {
            if let Ok(Ok(answer)) = timeout(deadline.saturating_duration_since(Instant::now()), reply).await {
                answers.push(answer);
            }
        }
        answers
    }

    /// Stops accepting, and lets requests and tunnels finish for as long as `grace`.
    pub fn drain(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        for worker in self.commands.iter() {
            // A worker that has ended has nothing to drain.
            let _ = worker.send(Command::Drain(deadline));
        }
    }

    /// Resolves when every worker has ended.
    pub async fn drained(&self) {
        let mut finished = self.finished.clone();
        // Nothing is ever sent: an error means that the last sender is gone.
        while finished.changed().await.is_ok() {}
    }
}
