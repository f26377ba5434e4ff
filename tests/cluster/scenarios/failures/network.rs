//! The network between nodes fails.

use std::time::Duration;

use anyhow::ensure;

use super::{
    super::table::Row,
    site::Site,
    watch::{ANSWERED_WITHIN, FEW, OVER_WITHIN, Span, Watch, Way},
};
use crate::{cluster::Cluster, network, wait::PATIENCE};

/// Through the nodes that are left, no request fails that is sent so long after a node fell silent: by then their connections to it are closed, and a new one
/// that isn't answered is dialled anew. Much less than the cluster takes to count the node as lost.
const AVOIDED_WITHIN: Duration = Duration::from_secs(10);
/// As [`OVER_WITHIN`], where kube-proxy has to start first, and to read all Services and endpoints.
const PROXIES_AGAIN_WITHIN: Duration = Duration::from_secs(10);

pub async fn overlay_breaks(site: &Site<'_>) -> anyhow::Result<Row> {
    let (first, second) = (site.cluster.node(1), site.cluster.node(2));
    let broken = |broken| network::set_overlay(first, second, broken);
    let measured = overlay(site, broken, &[(1, 2), (2, 1)], &[1, 2]).await?;
    Ok(Row {
        event: "overlay broken between two nodes",
        seen: format!("through these two, {}; the other's pod isn't reached, all others are; {}", few("504"), over()),
        measured,
    })
}

pub async fn overlay_is_blocked(site: &Site<'_>) -> anyhow::Result<Row> {
    let blocked = |blocked| [2, 3].iter().for_each(|other| network::set_overlay(site.cluster.node(1), site.cluster.node(*other), blocked));
    let measured = overlay(site, blocked, &[(1, 2), (1, 3), (2, 1), (3, 1)], &[1, 2, 3]).await?;
    Ok(Row {
        event: "UDP 8472 blocked by one node's firewall",
        seen: format!("through all nodes, {}; that node reaches its own pod alone, the others each other's; {}", few("504"), over()),
        measured,
    })
}

/// `harmed` are the nodes through which requests may fail.
async fn overlay(site: &Site<'_>, set: impl Fn(bool), cut: &[Way], harmed: &[usize]) -> anyhow::Result<String> {
    let watch = Watch::begin(site).await?;
    let fault = watch.lasts(set, async || Ok(())).await?;
    let seen = watch.end(fault).await?.without_surprised(harmed)?;
    let spared: Vec<usize> = (1..=site.targets.len()).filter(|node| !harmed.contains(node)).collect();
    seen.cuts(cut, fault.began)?;
    seen.spares(&spared)?;
    seen.harms_little(harmed, &["504"], fault)?;
    seen.is_over_within(OVER_WITHIN)?;
    Ok(format!(
        "{}; broken for {:.0} s, the last one that failed was sent {:.1} s after that",
        seen.account(harmed),
        fault.seconds(),
        seen.last_failure(harmed, fault.ended).as_secs_f32()
    ))
}

/// kube-proxy of the first node is stopped, and the pod of the second is replaced by one with another address.
pub async fn kube_proxy_stops(site: &Site<'_>) -> anyhow::Result<Row> {
    let (cluster, node) = (site.cluster, site.cluster.node(1));
    let watch = Watch::begin(site).await?;
    let mut moved = Duration::ZERO;
    let stopped = |stopped| if stopped { node.stop_kube_proxy() } else { node.start_kube_proxy() };
    let fault = watch
        .lasts(stopped, async || {
            move_pod(cluster, "n2").await?;
            moved = watch.load.now();
            Ok(())
        })
        .await?;
    let seen = watch.end(fault).await?;
    seen.cuts(&[(1, 2)], moved)?;
    seen.spares(&[2, 3])?;
    seen.harms_little(&[1], &["502", "504"], Span { began: moved, ended: fault.ended })?;
    seen.is_over_within(PROXIES_AGAIN_WITHIN)?;
    Ok(Row {
        event: "kube-proxy of one node stopped, then a pod replaced",
        seen: format!(
            "through that node, {}; the new pod isn't reached until kube-proxy is back, all others are; through the other nodes, nothing",
            few("502 or 504")
        ),
        measured: format!(
            "{}; stopped for {:.0} s, the last one that failed was sent {:.1} s after that",
            seen.account(&[1]),
            fault.seconds(),
            seen.last_failure(&[1], fault.ended).as_secs_f32()
        ),
    })
}

async fn move_pod(cluster: &Cluster, node: &str) -> anyhow::Result<()> {
    let selector = format!("--field-selector=spec.nodeName={node}");
    cluster.kubectl(&["delete", "pods", "--namespace=failures", "--selector=app=web", &selector, "--timeout=60s"])?;
    cluster.rolled_out("failures", "web", PATIENCE).await
}

/// The third node's cable is pulled, until its address is out of the Ingress's status and its pod out of the endpoints.
pub async fn link_goes_down(site: &Site<'_>) -> anyhow::Result<Row> {
    let lost = site.cluster.node(3);
    let watch = Watch::begin(site).await?;
    let mut withdrawn = Duration::ZERO;
    let fault = watch
        .lasts(
            |down| lost.set_link(!down),
            async || {
                site.in_status("web", lost, false).await?;
                withdrawn = watch.load.now();
                Ok(())
            },
        )
        .await?;
    site.in_status("web", lost, true).await?;
    let back = watch.load.now();
    let seen = watch.end(fault).await?.without_surprised(&[1, 2])?;
    seen.cuts(&[(1, 3), (2, 3), (3, 1), (3, 2), (3, 3)], fault.began)?;
    seen.harms_little(&[1, 2], &["504"], Span { began: fault.began, ended: fault.began + AVOIDED_WITHIN })?;
    let latest = seen.last_failure(&[1, 2], fault.began);
    ensure!(latest < AVOIDED_WITHIN, "a request through another node failed that was sent {latest:?} after the fault");
    seen.is_over_within(OVER_WITHIN)?;
    let after = |moment: Duration, since| moment.saturating_sub(since).as_secs_f32();
    Ok(Row {
        event: "a node's link down",
        seen: format!(
            "through that node, no answer; through the others, {}, and for less than {} s; {}",
            few("504"),
            AVOIDED_WITHIN.as_secs(),
            over()
        ),
        measured: format!(
            "through the others, {}, the last of these sent {:.0} s after the fault; the status has lost the node's address after {:.0} s, and has it again {:.1} s after \
             the link",
            seen.account(&[1, 2]),
            latest.as_secs_f32(),
            after(withdrawn, fault.began),
            after(back, fault.ended)
        ),
    })
}

/// As [`super::watch::Seen::harms_little`] has it, with these statuses.
pub fn few(statuses: &str) -> String {
    format!("few requests fail (under {FEW} %), with {statuses}, none slower than {:.1} s", ANSWERED_WITHIN.as_secs_f32())
}

fn over() -> String {
    format!("all is well {} s after its end", OVER_WITHIN.as_secs())
}
