//! When the pods of Nodegate were told to end, and whether that explains when WebSockets were told to go.

use std::{
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use nodegate::config::limits::{DRAIN_TIMEOUT, STREAM_FAREWELL};
use tokio::{
    task::{AbortHandle, spawn},
    time::Instant,
};

use crate::{cluster::Cluster, install, websockets::End};

/// The earliest that a WebSocket is told after its drain's beginning: in the second half of what the drain leaves it.
const FIRST_AFTER: Duration = DRAIN_TIMEOUT.saturating_sub(STREAM_FAREWELL).checked_div(2).expect("not by zero");
/// How much later than the kubelet we may hear of a pod's end, and the other way round until the process hears of it.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// The drains that were begun, as far as one has heard.
pub struct Drains {
    seen: Arc<Mutex<Vec<Drain>>>,
    following: AbortHandle,
}

#[derive(Debug, Clone)]
struct Drain {
    pod: String,
    node: IpAddr,
    began: Instant,
}

impl Drains {
    /// Listens to the API server from now on.
    pub fn follow(cluster: &Cluster) -> Self {
        let pods = Api::<Pod>::namespaced(cluster.client(), install::NAMESPACE);
        let seen = Arc::<Mutex<Vec<Drain>>>::default();
        let account = Arc::clone(&seen);
        let following = spawn(async move {
            let mut versions = pin!(watcher(pods, watcher::Config::default()).default_backoff().applied_objects());
            while let Some(version) = versions.next().await {
                // It is tried again.
                let Ok(pod) = version else { continue };
                note(&mut lock(&account), &pod);
            }
        });
        Self { seen, following: following.abort_handle() }
    }

    /// Says that each of these was told in the second half of a drain of the node that it led through. When the first and the last was, after the drain's
    /// beginning.
    pub fn explain<'a>(&self, told: impl Iterator<Item = &'a End>) -> anyhow::Result<(Duration, Duration)> {
        let seen = lock(&self.seen);
        let window = FIRST_AFTER.saturating_sub(HEARD_WITHIN)..DRAIN_TIMEOUT + HEARD_WITHIN;
        let (mut first, mut last) = (window.end, Duration::ZERO);
        for end in told {
            let of_node = seen.iter().filter(|drain| drain.node == end.target.ip());
            let after: Vec<Duration> = of_node.filter_map(|drain| end.at.checked_duration_since(drain.began)).collect();
            let fits = after.iter().copied().find(|after| window.contains(after));
            let fits =
                fits.with_context(|| format!("told {after:?} after the drains of {} began, and not within {window:?}", end.target))?;
            (first, last) = (first.min(fits), last.max(fits));
        }
        Ok((first, last))
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        lock(&self.seen).len()
    }
}

impl Drop for Drains {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// A pod that is to be deleted, once.
fn note(drains: &mut Vec<Drain>, pod: &Pod) {
    let address = pod.status.as_ref().and_then(|status| status.host_ip.as_ref()).and_then(|address| address.parse().ok());
    let (Some(name), Some(_), Some(node)) = (&pod.metadata.name, &pod.metadata.deletion_timestamp, address) else { return };
    if drains.iter().all(|drain| drain.pod != *name) {
        drains.push(Drain { pod: name.clone(), node, began: Instant::now() });
    }
}

fn lock(drains: &Mutex<Vec<Drain>>) -> MutexGuard<'_, Vec<Drain>> {
    drains.lock().unwrap_or_else(PoisonError::into_inner)
}
