//! What may happen, and what it excuses.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;

use super::{
    super::changes::{
        abrupt,
        site::{HOST, NAMESPACE, Site, WEB},
    },
    account::{Account, Excuse, Whom},
};
use crate::{
    backup::{Backup, restart_followers},
    following, install,
    sample::{ingress, list},
    standby::Standby,
    wait::{PATIENCE, eventually},
};

/// How long the API server is away, in requests of the load: some seconds.
const AWAY: u32 = 800;
/// Ingresses that are edited at once, every other one wrongly.
const EDITED: usize = 30;
/// How long after a node has gone requests may still be sent to its pods in vain: the connect timeout, and what was under way.
const SURPRISED: Duration = Duration::from_secs(5);
/// A version that isn't this one.
const ANOTHER_VERSION: &str = "--of-another-version";

/// One thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    Upgrade,
    BrokenUpgrade,
    Kill,
    KillWithoutApiServer,
    ApiServerStops,
    BackendUpdate,
    BackendDeletedByForce,
    Edits,
    EtcdSetBack,
    Reboot,
}

/// What is over within seconds.
pub const QUICK: &[Act] = &[
    Act::BrokenUpgrade,
    Act::Kill,
    Act::KillWithoutApiServer,
    Act::ApiServerStops,
    Act::BackendUpdate,
    Act::BackendDeletedByForce,
    Act::Edits,
];
/// And what isn't.
pub const SLOW: &[Act] = &[Act::Upgrade, Act::EtcdSetBack, Act::Reboot];

impl Act {
    /// Each once.
    pub fn shuffled(acts: &[&[Self]], random: &mut fastrand::Rng) -> Vec<Self> {
        let mut acts = acts.concat();
        random.shuffle(&mut acts);
        acts
    }

    /// Makes it happen, and waits until it is over.
    pub async fn happen(self, site: &Site<'_>, account: &mut Account, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        // Within `minReadySeconds` a pod isn't available yet, and the controller replaces such ones on all nodes at once. After a restore it may take five minutes for
        // dead pods on their way.
        install::rollout(site.cluster, &["status", "--timeout=400s"])?;
        let node = random.usize(1..=site.cluster.nodes.len());
        let began = account.load.now();
        match self {
            Self::Upgrade => {
                install::rollout(site.cluster, &["restart"])?;
                install::rollout(site.cluster, &["status", "--timeout=180s"])?;
            }
            Self::BrokenUpgrade => broken_upgrade(site, account).await?,
            Self::Kill => account.excuse(killed(site, account, node).await?),
            Self::KillWithoutApiServer => {
                site.cluster.stop_api_server();
                let excuse = killed(site, account, node).await;
                site.cluster.start_api_server().await?;
                account.excuse(excuse?);
            }
            Self::ApiServerStops => {
                site.cluster.stop_api_server();
                let ended = account.load.ended(AWAY).await;
                site.cluster.start_api_server().await?;
                ended?;
            }
            Self::BackendUpdate => {
                site.cluster.rollout(NAMESPACE, "deployment/web", &["restart"])?;
                site.is_whole().await?;
            }
            Self::BackendDeletedByForce => account.excuse(backend_deleted(site, account).await?),
            Self::Edits => edits(site).await?,
            Self::EtcdSetBack => etcd_set_back(site).await?,
            Self::Reboot => reboot(site, account, node).await?,
        }
        install::rolled_out(site.cluster).await?;
        site.cluster.serves(HOST).await?;
        account.note(self, began);
        Ok(())
    }
}

/// It gets stuck on one node, and is taken back.
async fn broken_upgrade(site: &Site<'_>, account: &Account) -> anyhow::Result<()> {
    let container = json!({ "name": "nodegate", "args": ["serve", ANOTHER_VERSION] });
    install::patch_pods(site.cluster, &json!({ "containers": [container] }))?;
    eventually("the new version has crashed", PATIENCE, async || {
        let pods = Api::<Pod>::namespaced(site.cluster.client(), install::NAMESPACE).list(&ListParams::default()).await?;
        let statuses = pods.items.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
        let reasons: Vec<String> = statuses.filter_map(|container| container.state?.waiting?.reason).collect();
        ensure!(reasons.iter().any(|reason| reason == "CrashLoopBackOff"), "containers wait for {reasons:?}");
        Ok(())
    })
    .await?;
    account.load.ended(AWAY / 4).await?;
    install::rollout(site.cluster, &["undo"])
}

/// Through that node, whatever is under way ends, and connections are refused until another process answers.
async fn killed(site: &Site<'_>, account: &Account, node: usize) -> anyhow::Result<Excuse> {
    let (door, from) = (site.targets[node - 1], account.load.now());
    install::kill(site.cluster.node(node)).await?;
    let gone = account.load.now();
    let first = account.load.answers_again(door, gone).await?;
    // WebSockets try again every second.
    account.websockets.all_open().await?;
    Ok(Excuse { targets: vec![door], from, until: first.sent + first.took, whom: Whom::Both })
}

/// WebSockets of that pod end without a word.
async fn backend_deleted(site: &Site<'_>, account: &Account) -> anyhow::Result<Excuse> {
    let pod = site.pods().await?.pop().context("no pod")?.name_any();
    let from = account.load.now();
    abrupt::deleted_by_force(site, &pod).await?;
    account.websockets.all_open().await?;
    Ok(Excuse { targets: site.targets.clone(), from, until: account.load.now(), whom: Whom::WebSockets })
}

/// Of other hosts; then they go.
async fn edits(site: &Site<'_>) -> anyhow::Result<()> {
    let edited =
        |number: usize, service: &str| ingress(NAMESPACE, &format!("edited-{number}"), &format!("edited-{number}.example"), service);
    let all =
        |wrong: &str| list(&(0..EDITED).map(|number| edited(number, if number % 2 == 0 { WEB.name } else { wrong })).collect::<Vec<_>>());
    let [right, wrong] = [EDITED - 2, EDITED - 1].map(|number| format!("edited-{number}.example"));
    site.cluster.apply(&all(WEB.name))?;
    // Each node has to have known the versions that are to stay in force: one that comes back to the API server meanwhile reads but the newest.
    site.cluster.serves(&wrong).await?;
    site.cluster.apply(&all("nowhere"))?;
    site.cluster.serves(&right).await?;
    site.cluster.serves(&wrong).await?;
    site.cluster.kubectl_with(&["delete", "--filename=-"], &all(WEB.name)).map(drop)
}

/// Of a time when other hosts were served. What is served all the time is in both states.
async fn etcd_set_back(site: &Site<'_>) -> anyhow::Result<()> {
    let [old, new] = ["old", "new"].map(|name| list(&[ingress(NAMESPACE, name, &format!("{name}.example"), WEB.name)]));
    site.cluster.apply(&old)?;
    site.cluster.serves("old.example").await?;
    let backup = Backup::take(site.cluster).await?;
    site.cluster.kubectl_with(&["delete", "--filename=-"], &old)?;
    site.cluster.apply(&new)?;
    site.cluster.serves("new.example").await?;
    backup.put_back(site.cluster).await?;
    site.cluster.serves("old.example").await?;
    restart_followers(site.cluster).await?;
    site.cluster.kubectl_with(&["delete", "--filename=-"], &old).map(drop)
}

/// Without a control plane: through that node, nothing until what stands by there serves. Through the others, requests that its pods had may fail, and WebSockets
/// of these pods end.
async fn reboot(site: &Site<'_>, account: &mut Account, node: usize) -> anyhow::Result<()> {
    let (cluster, lost, door) = (site.cluster, site.cluster.node(node), site.targets[node - 1]);
    let standby = Standby::place(lost).await?;
    cluster.stop_control_plane();
    let from = account.load.now();
    lost.power_off();
    let off = account.load.now();
    lost.power_on();
    let answers = account.load.answers_again(door, off).await;
    cluster.restart_control_plane().await?;
    let first = answers?;
    following::restart_on_nodes(cluster).await?;
    // When the kubelet started it again, and when it was relieved.
    standby.has_begun(2).await?;
    standby.remove(cluster).await?;
    site.is_whole().await?;
    account.websockets.all_open().await?;
    let until = account.load.now();
    account.excuse(Excuse { targets: vec![door], from, until: first.sent + first.took, whom: Whom::Both });
    account.excuse(Excuse { targets: site.targets.clone(), from, until: off + SURPRISED, whom: Whom::Both });
    account.excuse(Excuse { targets: site.targets.clone(), from, until, whom: Whom::WebSockets });
    Ok(())
}
