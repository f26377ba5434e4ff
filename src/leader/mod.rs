//! Which one of the Nodegates of a cluster writes to it: leader election by a Lease. It decides who may write, never what.
//!
//! A leader's role ends by itself, on its own clock, before anyone else's can begin: see [`Role`].

mod lease;

use std::{
    future::pending,
    time::{Duration, Instant},
};

use kube::Client;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time,
};

use crate::config::limits::{LEASE_DURATION, LEASE_RELEASE_TIMEOUT};
use lease::Candidate;

/// Who stands for election, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name. Nodegates that are one installation have the same.
    pub name: String,
    /// `spec.holderIdentity`: the pod's name, for people to find it.
    pub identity: String,
    /// How long the others wait after the leader's last sign of life ([`LEASE_DURATION`]).
    pub duration: Duration,
}

impl Settings {
    /// With the usual duration.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), identity: identity.into(), duration: LEASE_DURATION }
    }

    /// How long a leader leads after it asked for its last renewal that succeeded: two thirds of the duration. The last third is for what it
    /// has under way when the role ends, and for clocks that run at different speeds.
    fn term(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// The pause between two looks at the Lease, and so between two renewals: 2 s of 15, five tries in a term.
    fn pause(&self) -> Duration {
        self.duration * 2 / 15
    }

    /// How long one look (and the write that follows from it) may take: half of a term, so that one lost packet isn't the end of a leader.
    fn patience(&self) -> Duration {
        self.term() / 2
    }
}

/// Whether this process leads. Cloning is cheap; each clone follows by itself.
///
/// At most one process leads at a time. A leader that can't renew stops at two thirds of the Lease's duration after it *sent* its last successful
/// renewal; another takes over, without a release, only once it has itself watched an unchanged Lease for the whole duration, which began
/// after that renewal was written. No clock is compared with another machine's. What remains: a write that was sent in the role's last moment may
/// arrive up to a third of the duration later with nobody's role in conflict, and any time later if the API server or the network held it up that
/// long. So whatever a leader writes must be harmless when repeated or late (and the next leader looks at it, and corrects it).
#[derive(Debug, Clone)]
pub struct Role {
    until: watch::Receiver<Option<Instant>>,
}

impl Role {
    /// A role that is never gained: outside a cluster.
    pub fn never() -> Self {
        Self { until: watch::channel(None).1 }
    }

    /// A role as a test sets it: leading until the moment that was last sent.
    pub fn from_channel(until: watch::Receiver<Option<Instant>>) -> Self {
        Self { until }
    }

    /// Whether this process leads now. Ask before every write: this looks at the clock, and is right even in a process that was stopped for a while.
    pub fn leads(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this process leads.
    pub async fn gained(&mut self) {
        loop {
            if self.until.borrow_and_update().is_some_and(|until| Instant::now() < until) {
                return;
            }
            if self.until.changed().await.is_err() {
                // Nobody will ever say so.
                pending::<()>().await;
            }
        }
    }

    /// Waits until this process doesn't lead any more; not at all if it doesn't now. Race writes against this.
    pub async fn lost(&mut self) {
        loop {
            let until = *self.until.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else { return };
            tokio::select! {
                () = time::sleep_until(until.into()) => {}
                changed = self.until.changed() => if changed.is_err() {
                    time::sleep_until(until.into()).await;
                }
            }
        }
    }
}

/// A candidacy under way. Dropping it lets it go on to the end of the process.
#[derive(Debug)]
pub struct Election {
    role: Role,
    resign: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Stands for election, from the end of `ready` until [`Election::resign`]. An API server that is away, or refuses, is waited for, and said once.
pub fn stand(client: Client, settings: Settings, ready: impl Future<Output = ()> + Send + 'static) -> Election {
    let (until, role) = watch::channel(None);
    let (resign, resigned) = oneshot::channel();
    let task = tokio::spawn(run(Candidate::new(client, settings, until), ready, resigned));
    Election { role: Role { until: role }, resign, task }
}

impl Election {
    /// Whether this process leads.
    pub fn role(&self) -> Role {
        self.role.clone()
    }

    /// Leads no more, at once; releases the Lease, if it was ours, so that another needn't wait for its end. Returns when that is done or has failed,
    /// within [`LEASE_RELEASE_TIMEOUT`]. Whatever the leader still has to write must be written before.
    pub async fn resign(self) {
        // The task ends only by this.
        let _ = self.resign.send(());
        let _ = self.task.await;
    }
}

async fn run(mut candidate: Candidate, ready: impl Future<Output = ()>, resigned: oneshot::Receiver<()>) {
    let candidacy = async {
        ready.await;
        loop {
            candidate.look().await;
            time::sleep(candidate.pause()).await;
        }
    };
    tokio::select! {
        () = candidacy => {}
        // A sender that was dropped is no resignation.
        () = async { if resigned.await.is_err() { pending::<()>().await } } => {}
    }
    if time::timeout(LEASE_RELEASE_TIMEOUT, candidate.release()).await.is_err() {
        tracing::warn!("the leader's Lease couldn't be released in time: the next leader waits for its end");
    }
}

#[cfg(test)]
mod tests;
