//! Writes what differs: a few at a time, each to exactly the version that was looked at, with backoff, and without a war against other writers.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use k8s_openapi::api::networking::v1::Ingress;
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams},
};
use tokio::{task::JoinSet, time};

use super::{
    Counters,
    peers::View,
    progress::{Contested, Progress},
    target::{Target, patch, target},
};
use crate::{
    config::{
        Address,
        limits::{
            API_BACKOFF_MAX, API_BACKOFF_MIN, STATUS_CONTEST_TOLD, STATUS_WITHDRAWALS_AT_ONCE, STATUS_WRITE_TIMEOUT, STATUS_WRITES_AT_ONCE,
        },
    },
    leader::Role,
    source::{Served, reason},
};

/// The writing side of one leader's time in office. Dropping it stops what is under way.
pub(super) struct Writer {
    client: Client,
    manager: String,
    role: Role,
    counters: Arc<Counters>,
    /// By uid; of Ingresses that we have something to remember of.
    progress: HashMap<String, Progress>,
    queue: VecDeque<Job>,
    running: JoinSet<(Job, Outcome)>,
    /// How many may run.
    at_once: usize,
    /// Failures in a row that are the API server's, not an Ingress's; and until when they make us wait.
    failures: u32,
    pause: Option<Instant>,
    said: String,
}

/// One write to be made.
#[derive(Debug, Clone)]
struct Job {
    uid: String,
    served: Served,
    /// The version that the source shows.
    shown: String,
    /// The version that must still be there: that one, or what our own last write made of it.
    version: String,
    addresses: Arc<BTreeSet<Address>>,
}

/// What became of a write.
enum Outcome {
    /// It made this version.
    Written(String),
    /// There is another version by now: the source will show it.
    Outdated,
    /// The Ingress is gone.
    Gone,
    /// The API server refused this one.
    Refused(String),
    /// The API server doesn't do what it should, whichever Ingress it is about.
    Failed(String),
}

impl Writer {
    pub(super) fn new(client: Client, manager: String, role: Role, counters: Arc<Counters>) -> Self {
        Self {
            client,
            manager,
            role,
            counters,
            progress: HashMap::new(),
            queue: VecDeque::new(),
            running: JoinSet::new(),
            at_once: STATUS_WRITES_AT_ONCE,
            failures: 0,
            pause: None,
            said: String::new(),
        }
    }

    /// Compares everything, and queues what differs. Returns when to do so again although nothing happens.
    pub(super) fn plan(&mut self, ingresses: &[Served], view: &View, now: Instant) -> Option<Instant> {
        for job in self.queue.drain(..) {
            if let Some(progress) = self.progress.get_mut(&job.uid) {
                progress.busy = false;
            }
        }
        self.at_once = if view.may_be_empty { STATUS_WITHDRAWALS_AT_ONCE } else { STATUS_WRITES_AT_ONCE };
        let ready = Arc::new(view.ready.clone());
        let waits = ingresses.iter().filter_map(|served| self.consider(served, view, &ready, now));
        let again = waits.min();
        if self.progress.len() > ingresses.len() {
            let present: HashSet<&str> = ingresses.iter().filter_map(|served| served.object.metadata.uid.as_deref()).collect();
            self.progress.retain(|uid, progress| progress.busy || present.contains(uid.as_str()));
        }
        again
    }

    /// Queues what is to be written of one Ingress; returns when, if not yet.
    fn consider(&mut self, served: &Served, view: &View, ready: &Arc<BTreeSet<Address>>, now: Instant) -> Option<Instant> {
        let metadata = &served.object.metadata;
        let (Some(uid), Some(shown)) = (&metadata.uid, &metadata.resource_version) else { return None };
        let mut unknown = Progress::default();
        let progress = self.progress.get_mut(uid).unwrap_or(&mut unknown);
        if progress.busy {
            return None;
        }
        let (state, contested) = progress.look(&served.object, shown, served.accepted, &self.manager, now);
        if let Some(contested) = contested {
            self.counters.contested.fetch_add(1, Ordering::Relaxed);
            tell_contest(served, &contested);
        }
        let addresses = match target(served.accepted, &state.borne, state.ours, view, ready) {
            Target::Leave => return None,
            Target::Say(addresses) => addresses,
            Target::Withdraw => Arc::default(),
        };
        if let Some(not_before) = progress.not_before.filter(|not_before| *not_before > now) {
            return Some(not_before);
        }
        self.progress.entry(uid.clone()).or_default().busy = true;
        self.queue.push_back(Job { uid: uid.clone(), served: served.clone(), shown: shown.clone(), version: state.version, addresses });
        None
    }

    /// Starts as many writes as may run. Returns when to call again, if the API server needs a pause.
    pub(super) fn fill(&mut self, now: Instant) -> Option<Instant> {
        if let Some(pause) = self.pause.filter(|pause| *pause > now) {
            return (!self.queue.is_empty()).then_some(pause);
        }
        while self.running.len() < self.at_once && self.role.leads() {
            let Some(job) = self.queue.pop_front() else { break };
            self.running.spawn(write(self.client.clone(), self.manager.clone(), job));
        }
        None
    }

    /// Nothing is queued or under way. What waits for a pause of its own, after a failure or for another writer's sake, doesn't count.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Waits for the next write to end, for ever if there is none, and takes note of it. Returns whether everything should be compared again.
    pub(super) async fn next(&mut self) -> bool {
        let Some(Ok((job, outcome))) = self.running.join_next().await else { return std::future::pending().await };
        let now = Instant::now();
        let progress = self.progress.entry(job.uid.clone()).or_default();
        match outcome {
            Outcome::Written(version) => {
                self.counters.writes.fetch_add(1, Ordering::Relaxed);
                progress.written(job.shown, version, job.addresses, now);
                (self.failures, self.pause) = (0, None);
                self.said.clear();
                return false;
            }
            Outcome::Gone => {
                self.progress.remove(&job.uid);
                return false;
            }
            Outcome::Outdated => progress.failed(now),
            Outcome::Refused(error) => {
                progress.failed(now);
                self.complain(&job, error);
            }
            Outcome::Failed(error) => {
                progress.failed(now);
                let pause = API_BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(API_BACKOFF_MAX);
                self.failures = self.failures.saturating_add(1);
                self.pause = Some(now + pause);
                self.complain(&job, error);
            }
        }
        true
    }

    /// Once for each trouble, however many Ingresses it is about.
    fn complain(&mut self, job: &Job, error: String) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        if self.said != error {
            tracing::warn!(ingress = name(&job.served), error, "can't write an Ingress's status; trying again");
            self.said = error;
        }
    }
}

async fn write(client: Client, manager: String, job: Job) -> (Job, Outcome) {
    let metadata = &job.served.object.metadata;
    let ingresses = Api::<Ingress>::namespaced(client, metadata.namespace.as_deref().unwrap_or_default());
    let patch = Patch::Apply(patch(&job.served, &job.version, &job.addresses));
    // Nobody else has a say in an Ingress that is ours. One that isn't, loses only what nobody else keeps.
    let params = PatchParams::apply(&manager).force();
    let request = ingresses.patch_status(metadata.name.as_deref().unwrap_or_default(), &params, &patch);
    let outcome = match time::timeout(STATUS_WRITE_TIMEOUT, request).await {
        Ok(Ok(ingress)) => Outcome::Written(ingress.metadata.resource_version.unwrap_or_default()),
        Ok(Err(Error::Api(status))) if status.code == 409 => Outcome::Outdated,
        Ok(Err(Error::Api(status))) if status.code == 404 => Outcome::Gone,
        Ok(Err(Error::Api(status))) if matches!(status.code, 400 | 422) => Outcome::Refused(status.message),
        Ok(Err(Error::Api(status))) if matches!(status.code, 401 | 403) => {
            Outcome::Failed(format!("{}; check the ServiceAccount's ClusterRole: patch of ingresses/status", status.message))
        }
        Ok(Err(error)) => Outcome::Failed(reason(&error)),
        Err(_) => Outcome::Failed("no answer in time".to_owned()),
    };
    (job, outcome)
}

/// The first times may be a controller's last words; then it is said, once.
fn tell_contest(served: &Served, contested: &Contested) {
    if contested.strikes == STATUS_CONTEST_TOLD {
        let others = served.object.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
        tracing::warn!(
            ingress = name(served),
            by = others.collect::<Vec<_>>().join(", "),
            "another writer keeps changing the addresses in this Ingress's status: does another controller take it for its own? \
             Writing them more and more rarely"
        );
    }
}

fn name(served: &Served) -> String {
    let metadata = &served.object.metadata;
    format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}
