//! Two leaders in a row are killed while clients come: none notices but those of a killed process, and no Ingress loses an address that serves.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod, networking::v1::Ingress};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::{
    cluster::Cluster,
    http, install,
    load::{Failure, Load, Tally},
    node::Node,
    sample::{Sample, ingress, is_ready, list, namespace},
    wait::{PATIENCE, eventually},
};

const HOST: &str = "leaders.example";
const NAMESPACE: &str = "rig-leaders";
const WEB: Sample<'_> = Sample { namespace: NAMESPACE, name: "web", port: 8000, answers_as: "$(NODE)" };
/// On the control plane's node, as kubeadm leaves it.
const TAINT: &str = "node-role.kubernetes.io/control-plane";

/// Requests a second, over all three nodes, and how many at least before the first fault and after the last.
const RATE: u32 = 60;
const AROUND: u32 = 120;
/// How soon a killed process's successor serves. The kubelet starts it within a second or two; should the same pod lead and fall again, after ten, as
/// on a machine that is busy with other things.
const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// How long a node's address outlasts a pod that isn't Ready any more, and how much later than the leader we may see that.
const HOLD: Duration = Duration::from_secs(5);
const LAG: Duration = Duration::from_secs(1);

pub async fn leaders(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&list(&[
        namespace(NAMESPACE),
        WEB.deployment(cluster.nodes.len()),
        WEB.service(80),
        ingress(NAMESPACE, "web", HOST, "web"),
    ]))?;
    cluster.rolled_out(NAMESPACE, "web", PATIENCE).await?;
    // What is there stays.
    cluster.kubectl(&["taint", "node", "n1", &format!("{TAINT}:NoSchedule")])?;
    let outcome = two_are_killed(cluster).await;
    cluster.kubectl(&["taint", "node", "n1", &format!("{TAINT}-")])?;
    outcome?;
    cluster.kubectl(&["delete", "namespace", NAMESPACE])?;
    Ok(())
}

async fn two_are_killed(cluster: &Cluster) -> anyhow::Result<()> {
    let installed = install::nodegate(cluster, "base", &[]).await?;
    cluster.serves(HOST).await?;
    bears_every_address(cluster, "web").await?;
    let pods = History::begin(Api::<Pod>::namespaced(cluster.client(), install::NAMESPACE)).await?;
    let statuses = History::begin(Api::<Ingress>::namespaced(cluster.client(), NAMESPACE)).await?;
    let load = Load::start(&cluster.internet, &cluster.doors(80), HOST, RATE);
    load.ended(AROUND).await?;
    let mut kills = Vec::new();
    for _ in 0..2 {
        kills.push(leader_is_killed(cluster, &load).await?);
    }
    last_leader_leads(cluster).await?;
    load.ended(AROUND).await?;
    let tally = load.stop();

    install::rolled_out(cluster).await.context("each pod is Ready again")?;
    bears_every_address(cluster, "web").await?;
    only_clients_of_the_killed_noticed(&tally, &kills)?;
    no_address_left_without_need(cluster, &statuses.all().await?, &pods.all().await?, &kills)?;
    install::uninstall(cluster, installed)
}

/// What the Lease says: a holder may come back, but not in the same transition.
#[derive(Debug, PartialEq, Eq)]
struct Leader {
    pod: String,
    transition: i32,
}

/// A process that was killed, in times of the load.
#[derive(Debug)]
struct Kill {
    door: SocketAddr,
    at: Duration,
    /// When its successor had answered a request.
    serves: Duration,
}

impl Kill {
    /// Whether a request went through the process while it was killed, or before its successor served.
    fn explains(&self, failure: &Failure) -> bool {
        failure.target == self.door && failure.sent + failure.took >= self.at && failure.sent <= self.serves
    }
}

/// Kills the leader's process, and waits until its successor serves and another one leads.
async fn leader_is_killed(cluster: &Cluster, load: &Load) -> anyhow::Result<Kill> {
    let leader = leader(cluster).await?;
    let node = node_of(cluster, &leader).await?;
    let door = SocketAddr::from((node.address, 80));
    let at = load.now();
    install::kill(node).await?;
    eventually(&format!("{} serves again", node.name), SERVES_WITHIN, async || {
        let answer = cluster.internet.within_async(async || http::get(door, HOST, "/").await)?;
        ensure!(answer.status == 200, "{answer}");
        Ok(())
    })
    .await?;
    let serves = load.now();
    let next = eventually("another leads", PATIENCE, async || {
        let found = self::leader(cluster).await?;
        ensure!(found != leader, "{found:?} does");
        Ok(found)
    })
    .await?;
    println!(
        "leaders: {} killed on {}, which serves again after {:.1} s; {} leads after {:.1} s",
        leader.pod,
        node.name,
        serves.saturating_sub(at).as_secs_f32(),
        next.pod,
        load.now().saturating_sub(at).as_secs_f32(),
    );
    Ok(Kill { door, at, serves })
}

/// It is the only one that says so, and a new Ingress gets its status from it.
async fn last_leader_leads(cluster: &Cluster) -> anyhow::Result<()> {
    let last = leader(cluster).await?;
    let node = node_of(cluster, &last).await?;
    eventually("only the holder of the Lease says that it leads", PATIENCE, async || {
        for other in &cluster.nodes {
            let (leads, expected) = (install::metric(other, "nodegate_leader")?, u64::from(other.name == node.name));
            ensure!(leads == expected, "{}: nodegate_leader is {leads}, and {} is on {}", other.name, last.pod, node.name);
        }
        Ok(())
    })
    .await?;
    let written = || install::metric(node, "nodegate_status_writes_total");
    let before = written()?;
    cluster.apply(&list(&[ingress(NAMESPACE, "late", "late.leaders.example", "web")]))?;
    bears_every_address(cluster, "late").await?;
    ensure!(written()? > before, "{} leads, and another has written the new Ingress's status", last.pod);
    ensure!(leader(cluster).await? == last, "{} doesn't lead any more", last.pod);
    Ok(())
}

/// Each failure is a killed process's doing.
fn only_clients_of_the_killed_noticed(tally: &Tally, kills: &[Kill]) -> anyhow::Result<()> {
    for kill in kills {
        let count = tally.failed.iter().filter(|failure| kill.explains(failure)).count();
        println!("leaders: {count} of {} requests failed by it through {}", tally.sent, kill.door);
        ensure!(count > 0, "no request met the fault: {kill:?}");
    }
    let other = tally.failed.iter().find(|failure| !kills.iter().any(|kill| kill.explains(failure)));
    other.map_or(Ok(()), |failure| Err(anyhow!("no killed process's doing: {failure}; {kills:?}")))
}

/// In every version of the Ingress, an address is missing only while its pod isn't Ready, and hasn't been for longer than the hold; once for each time
/// that it was killed.
fn no_address_left_without_need(cluster: &Cluster, statuses: &[Seen<Ingress>], pods: &[Seen<Pod>], kills: &[Kill]) -> anyhow::Result<()> {
    let versions: Vec<_> = statuses.iter().filter(|seen| seen.object.name_any() == "web").collect();
    println!("leaders: {} versions of the Ingress, {} of the pods", versions.len(), pods.len());
    for node in &cluster.nodes {
        let address = IpAddr::from(node.address).to_string();
        let bears = |seen: &Seen<Ingress>| addresses(&seen.object).contains(&address);
        ensure!(versions.first().is_some_and(|first| bears(first)), "{address} wasn't there at first");
        ensure!(versions.last().is_some_and(|last| bears(last)), "{address} hasn't returned");
        let removals: Vec<Instant> = versions.windows(2).filter(|pair| bears(pair[0]) && !bears(pair[1])).map(|pair| pair[1].at).collect();
        let falls = kills.iter().filter(|kill| kill.door.ip() == node.address).count();
        ensure!(removals.len() <= falls, "{address} left {} times, and its pod was killed {falls} times", removals.len());
        for removal in removals {
            let down = down_at(removal, &node.name, pods);
            ensure!(down.is_some_and(|down| down + LAG >= HOLD), "{address} left when its pod had not been Ready for {down:?}");
        }
    }
    Ok(())
}

/// For how long a node's pod hadn't been Ready at that moment; none if it was. What we saw in the last [`LAG`] before doesn't count.
fn down_at(moment: Instant, node: &str, pods: &[Seen<Pod>]) -> Option<Duration> {
    let of_node = |seen: &&Seen<Pod>| seen.object.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node));
    let mut since = None;
    for seen in pods.iter().filter(of_node).take_while(|seen| seen.at + LAG <= moment) {
        since = if is_ready(&seen.object) { None } else { since.or(Some(seen.at)) };
    }
    since.map(|since| moment - since)
}

async fn leader(cluster: &Cluster) -> anyhow::Result<Leader> {
    let lease = Api::<Lease>::namespaced(cluster.client(), install::NAMESPACE).get("nodegate").await?;
    let spec = lease.spec.context("a Lease without a spec")?;
    let pod = spec.holder_identity.filter(|holder| !holder.is_empty()).context("nobody leads")?;
    Ok(Leader { pod, transition: spec.lease_transitions.unwrap_or_default() })
}

async fn node_of<'a>(cluster: &'a Cluster, leader: &Leader) -> anyhow::Result<&'a Node> {
    let pod = Api::<Pod>::namespaced(cluster.client(), install::NAMESPACE).get(&leader.pod).await?;
    let name = pod.spec.and_then(|spec| spec.node_name);
    cluster.nodes.iter().find(|node| Some(&node.name) == name.as_ref()).with_context(|| format!("{} is on {name:?}", leader.pod))
}

async fn bears_every_address(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let ingresses: Api<Ingress> = Api::namespaced(cluster.client(), NAMESPACE);
    let wanted: BTreeSet<String> = cluster.nodes.iter().map(|node| node.address.to_string()).collect();
    eventually(&format!("Ingress {name} bears every node's address"), PATIENCE, async || {
        let borne = addresses(&ingresses.get(name).await?);
        ensure!(borne == wanted, "{borne:?}");
        Ok(())
    })
    .await
}

/// Those in an Ingress's status.
fn addresses(ingress: &Ingress) -> BTreeSet<String> {
    let entries = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    entries.into_iter().flatten().filter_map(|entry| entry.ip.clone()).collect()
}

/// One version of an object.
#[derive(Debug, Clone)]
struct Seen<K> {
    at: Instant,
    object: K,
}

/// Every version of the objects of a kind in a namespace.
#[derive(Debug)]
struct History<K> {
    api: Api<K>,
    seen: Arc<Mutex<Vec<Seen<K>>>>,
    /// Ends where it fails.
    watch: JoinHandle<anyhow::Error>,
}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static> History<K> {
    /// From the present one on.
    async fn begin(api: Api<K>) -> anyhow::Result<Self> {
        let now = api.list(&ListParams::default()).await?;
        let version = now.metadata.resource_version.context("a list without a version")?;
        let seen = Arc::new(Mutex::new(now.items.into_iter().map(Seen::now).collect()));
        let watch = tokio::spawn({
            let (api, seen) = (api.clone(), Arc::clone(&seen));
            async move { watch(&api, &version, &seen).await.err().unwrap_or_else(|| anyhow!("the watch has ended")) }
        });
        Ok(Self { api, seen, watch })
    }

    /// All of them, once the watch has brought those that there are now.
    async fn all(mut self) -> anyhow::Result<Vec<Seen<K>>> {
        let now = self.api.list(&ListParams::default()).await?.items;
        eventually("a watch has caught up", PATIENCE, async || {
            if self.watch.is_finished() {
                return Ok(());
            }
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let brought = |object: &K| seen.iter().any(|seen| seen.object.resource_version() == object.resource_version());
            ensure!(now.iter().all(brought), "not yet");
            Ok(())
        })
        .await?;
        if self.watch.is_finished() {
            return Err((&mut self.watch).await?.context("a watch doesn't know all"));
        }
        Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<K> Drop for History<K> {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl<K> Seen<K> {
    fn now(object: K) -> Self {
        Self { at: Instant::now(), object }
    }
}

async fn watch<K>(api: &Api<K>, version: &str, seen: &Mutex<Vec<Seen<K>>>) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut events = Box::pin(api.watch(&WatchParams::default(), version).await?);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen::now(object));
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => return Err(anyhow!("{error:?}")),
        }
    }
    Ok(())
}
