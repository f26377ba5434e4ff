//! The status of Ingresses: the addresses of the nodes where a Nodegate is Ready, written by the leader once it serves the Ingress itself.
//!
//! Reads what the rebuild reports and where our pods are; never touches the table.

mod drain;
mod facts;
mod peers;
mod progress;
mod target;
mod watch;
mod writer;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use kube::Client;
use tokio::sync::watch::{Receiver, Sender};

pub use drain::withdrawn;
pub use facts::PodFacts;
pub use watch::list_pods;

use crate::{
    config::{Address, limits::STATUS_SETTLE},
    leader::Role,
    source::Report,
    waiting::{changed, sleep_until},
};
use peers::{Peers, View};
use watch::{Seen, Watches};
use writer::Writer;

/// Whose addresses, and under which name they are written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our namespace.
    pub namespace: String,
    /// Our pod; by its controller the others are known. Without it nobody knows when all leave, and nothing is withdrawn then.
    pub pod: Option<String>,
    /// What to write in place of the nodes' addresses; empty: those.
    pub publish: BTreeSet<Address>,
    /// The field manager: one name for one installation, so that two of them in a cluster know their entries apart.
    pub manager: String,
}

/// Our pods, those that leave left out, by name; nothing while this process doesn't lead, or doesn't know.
pub type Siblings = Option<Arc<HashMap<String, PodFacts>>>;

/// What others are told.
#[derive(Debug)]
pub struct Told {
    /// This process leads, has seen that our own node leaves, and has no write queued or under way.
    pub written: Sender<bool>,
    /// Our pods.
    pub siblings: Sender<Siblings>,
}

/// What a leader has written; kept for the whole life of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Writes that succeeded.
    pub writes: AtomicU64,
    /// Writes that failed, for another reason than that the Ingress had changed meanwhile.
    pub errors: AtomicU64,
    /// Times that another writer changed what we had written.
    pub contested: AtomicU64,
}

/// Keeps every status right while this process leads, until the future is dropped. `leaving`: our own node is to be withdrawn.
pub async fn run(
    client: Client,
    settings: Settings,
    mut role: Role,
    report: Receiver<Report>,
    leaving: Receiver<bool>,
    told: Told,
    counters: Arc<Counters>,
) {
    if settings.pod.is_none() && settings.publish.is_empty() {
        tracing::info!("neither --pod-name nor --publish-address is given: no Ingress's status is written");
        return;
    }
    loop {
        role.gained().await;
        let writer = Writer::new(client.clone(), settings.manager.clone(), role.clone(), Arc::clone(&counters));
        let mut lost = role.clone();
        tokio::select! {
            () = lead(&client, &settings, writer, report.clone(), leaving.clone(), &told) => {}
            () = lost.lost() => {}
        }
        told.siblings.send_replace(None);
    }
}

/// One time in office.
async fn lead(
    client: &Client,
    settings: &Settings,
    mut writer: Writer,
    mut report: Receiver<Report>,
    mut leaving: Receiver<bool>,
    Told { written, siblings }: &Told,
) {
    let mut has_left = false;
    let mut addresses = Addresses::new(client, settings);
    // When to compare again: soon after something happened, as more may follow.
    let mut due = Some(Instant::now());
    loop {
        let now = Instant::now();
        if due.is_some_and(|due| due <= now) {
            let ingresses = Arc::clone(&report.borrow_and_update().ingresses);
            let leaves = *leaving.borrow_and_update();
            let view = addresses.view(now, leaves);
            // Without addresses there will be nothing to write if we are lost, and there may be if the lists are on their way.
            has_left = leaves && (view.is_some() || addresses.are_lost());
            due = match view {
                Some((view, again)) => again.into_iter().chain(writer.plan(&ingresses, &view, now)).min(),
                None => None,
            };
        }
        let wake = due.into_iter().chain(writer.fill(now)).min();
        let is_written = has_left && writer.is_idle();
        written.send_if_modified(|before| std::mem::replace(before, is_written) != is_written);
        let soon = tokio::select! {
            () = changed(&mut report) => true,
            () = changed(&mut leaving) => true,
            again = writer.next() => again,
            () = addresses.changed(siblings) => true,
            () = sleep_until(wake) => false,
        };
        if soon {
            let settled = Instant::now() + STATUS_SETTLE;
            due = Some(due.map_or(settled, |due| due.min(settled)));
        }
    }
}

/// Where the addresses come from.
struct Addresses {
    /// What is written in place of the nodes' addresses; empty: those.
    publish: BTreeSet<Address>,
    followed: Option<Followed>,
}

/// Our pods, and where the nodes' addresses are written also the nodes.
struct Followed {
    peers: Peers,
    watches: Watches,
    lost: bool,
}

impl Addresses {
    fn new(client: &Client, settings: &Settings) -> Self {
        let publish = settings.publish.clone();
        let followed = settings.pod.clone().map(|pod| {
            let watches = if publish.is_empty() {
                Watches::pods_and_nodes(client, &settings.namespace)
            } else {
                Watches::pods(client, &settings.namespace)
            };
            Followed { peers: Peers::new(pod), watches, lost: false }
        });
        Self { publish, followed }
    }

    /// Waits until something is different.
    async fn changed(&mut self, siblings: &Sender<Siblings>) {
        let Some(Followed { peers, watches, lost }) = &mut self.followed else { return std::future::pending().await };
        match watches.next().await {
            Seen::Pods(facts) => {
                peers.pods(facts);
                siblings.send_replace(peers.siblings().map(Arc::new));
            }
            Seen::Nodes(facts) => peers.nodes(facts),
        }
        if peers.lost_itself() != *lost {
            *lost = !*lost;
            if *lost {
                let follows = if self.publish.is_empty() { "no status is written" } else { "the published addresses are never withdrawn" };
                tracing::warn!("this pod isn't among those of its namespace: check --pod-name and --pod-namespace; {follows}");
            }
        }
    }

    /// Our own pod isn't there, so that there is no telling which are ours.
    fn are_lost(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.lost)
    }

    /// The addresses, and when to ask again although nothing happens; nothing as long as they aren't known.
    fn view(&mut self, now: Instant, leaving: bool) -> Option<(View, Option<Instant>)> {
        let is_lost = self.are_lost();
        let Self { publish, followed } = self;
        match followed {
            Some(Followed { peers, .. }) if publish.is_empty() => peers.view(now, leaving),
            // They lead to none of us any more once all of us leave. A leader that comes to office at that time must not write them again before it knows.
            Some(Followed { peers, .. }) if !is_lost => {
                let view = if peers.any_stays(leaving)? {
                    View { ready: publish.clone(), ..View::default() }
                } else {
                    View { may_be_empty: true, ..View::default() }
                };
                Some((view, None))
            }
            Some(_) | None => Some((View { ready: publish.clone(), ..View::default() }, None)),
        }
    }
}
