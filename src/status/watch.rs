//! Follows our pods and the nodes while this process leads. A watch that fails begins again with a list, and the last facts stay until then.

use std::{collections::HashMap, fmt::Debug, pin::pin, time::Duration};

use futures_util::StreamExt;
use kube::{
    Api, Client, Resource,
    api::ListParams,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, Instant},
};

use super::facts::{self, Facts, NodeExcerpt, NodeFacts, PodExcerpt, PodFacts};
use crate::config::limits::{API_BACKOFF_MAX, API_BACKOFF_MIN, API_PAGE_SIZE, API_WATCH_SECONDS, STATUS_FACTS_QUEUE};

/// What a watch has seen.
#[derive(Debug)]
pub(super) enum Seen {
    /// Of the pods of our namespace.
    Pods(Facts<PodFacts>),
    /// Of the nodes.
    Nodes(Facts<NodeFacts>),
}

/// The watches, until dropped.
#[derive(Debug)]
pub(super) struct Watches {
    tasks: JoinSet<()>,
    seen: mpsc::Receiver<Seen>,
}

impl Watches {
    /// All pods of the namespace are read: which of them are ours is told by their controller, for which there is no selector, and no label says it
    /// through a change of the pods' template.
    pub(super) fn pods_and_nodes(client: &Client, namespace: &str) -> Self {
        let (mut watches, sender) = Self::of_pods(client, namespace);
        watches.tasks.spawn(follow(Api::<NodeExcerpt>::all(client.clone()), "nodes", facts::node, Seen::Nodes, sender));
        watches
    }

    /// As [`Watches::pods_and_nodes`], without the nodes.
    pub(super) fn pods(client: &Client, namespace: &str) -> Self {
        Self::of_pods(client, namespace).0
    }

    fn of_pods(client: &Client, namespace: &str) -> (Self, mpsc::Sender<Seen>) {
        let (sender, seen) = mpsc::channel(STATUS_FACTS_QUEUE);
        let mut tasks = JoinSet::new();
        let pods = Api::<PodExcerpt>::namespaced(client.clone(), namespace);
        tasks.spawn(follow(pods, "pods of our namespace", facts::pod, Seen::Pods, sender.clone()));
        (Self { tasks, seen }, sender)
    }

    /// What was seen next.
    pub(super) async fn next(&mut self) -> Seen {
        match self.seen.recv().await {
            Some(seen) => seen,
            // The watches never end.
            None => std::future::pending().await,
        }
    }
}

/// The pods of a namespace with these labels, by name.
///
/// # Errors
/// An API server that can't be reached, or refuses.
pub async fn list_pods(client: &Client, namespace: &str, labels: &str) -> kube::Result<HashMap<String, PodFacts>> {
    let pods = Api::<PodExcerpt>::namespaced(client.clone(), namespace).list(&ListParams::default().labels(labels)).await?;
    Ok(pods.items.into_iter().map(facts::pod).collect())
}

async fn follow<K, T>(api: Api<K>, what: &'static str, facts: fn(K) -> (String, T), seen: fn(Facts<T>) -> Seen, sender: mpsc::Sender<Seen>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().timeout(API_WATCH_SECONDS).page_size(API_PAGE_SIZE);
    let (mut failures, mut said, mut last) = (0_u32, String::new(), None::<Instant>);
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        let mut listed = HashMap::new();
        let error = loop {
            let seen = match events.next().await {
                Some(Ok(Event::Init)) => {
                    listed.clear();
                    continue;
                }
                Some(Ok(Event::InitApply(object))) => {
                    listed.extend([facts(object)]);
                    continue;
                }
                Some(Ok(Event::InitDone)) => seen(Facts::All(std::mem::take(&mut listed))),
                Some(Ok(Event::Apply(object))) => {
                    let (name, facts) = facts(object);
                    seen(Facts::Is(name, facts))
                }
                Some(Ok(Event::Delete(object))) => seen(Facts::Gone(facts(object).0)),
                Some(Err(error)) => break error.to_string(),
                None => break "the watch ended".to_owned(),
            };
            if sender.send(seen).await.is_err() {
                return;
            }
        };
        if last.replace(Instant::now()).is_some_and(|last| last.elapsed() > API_BACKOFF_MAX * 3) {
            (failures, said) = (0, String::new());
        }
        if said != error {
            tracing::warn!(what, error, "can't follow where Nodegate is ready; trying again, with what was seen last");
            said = error;
        }
        time::sleep(backoff(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// Doubles up to the longest, less up to half of jitter.
fn backoff(failures: u32) -> Duration {
    let pause = API_BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(API_BACKOFF_MAX);
    pause.mul_f64(1.0 - fastrand::f64() / 2.0)
}
