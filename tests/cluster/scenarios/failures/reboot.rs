//! A node loses its power while there is no control plane: what stands by serves what is on disk, since no kubelet hears which other pods to start.

use std::time::Duration;

use anyhow::ensure;
use nodegate::config::limits::STANDBY_AFTER;

use super::{
    super::{
        lifecycle::process::{NET_BIND_SERVICE, Process},
        table::Row,
    },
    network::few,
    site::{HOST, Site},
    watch::{Span, Watch},
};
use crate::{
    following, install,
    standby::Standby,
    wait::{PATIENCE, eventually},
};

/// The node.
const LOST: usize = 3;
/// How long after its power is back it serves: nobody has to be there for some seconds, and the kubelet has some dozen things to do.
const SERVES_WITHIN: Duration = STANDBY_AFTER.saturating_add(Duration::from_secs(15));

pub async fn node_reboots(site: &Site<'_>) -> anyhow::Result<Row> {
    let (cluster, node) = (site.cluster, site.cluster.node(LOST));
    let standby = Standby::place(node).await?;
    let watch = Watch::begin(site).await?;
    let load = &watch.load;
    cluster.stop_control_plane();
    let began = load.now();
    node.power_off();
    let off = load.now();
    load.ended(30).await?;
    let on = load.now();
    node.power_on();
    let during = serves_from_disk(site, &watch).await;
    let ended = load.now();
    cluster.restart_control_plane().await?;
    let (served, age) = during?;
    following::restart_on_nodes(cluster).await?;
    eventually("the DaemonSet's pod has taken over", PATIENCE, async || {
        let age = install::metric(node, "nodegate_state_served_age_seconds");
        ensure!(age.is_err(), "what is served is {age:?} old");
        Ok(())
    })
    .await?;
    let back = load.now();
    // When the kubelet started it again, and when it was relieved.
    standby.has_begun(2).await?;
    for process in Process::all(cluster)? {
        process.is_restricted_to(NET_BIND_SERVICE)?;
    }
    standby.remove(cluster).await?;
    install::rolled_out(cluster).await?;
    let seen = watch.end(Span { began, ended }).await?.without_surprised(&[1, 2])?;
    // Its own pod is gone with the rest.
    seen.cuts(&[(1, 3), (2, 3), (3, 3)], off)?;
    seen.harms_little(&[1, 2], &["502", "504"], Span { began, ended })?;
    let late = seen.failed_between(LOST, Span { began: served, ended });
    ensure!(late == 0, "{late} requests through the node failed that were sent after it served again");
    let after = |moment: Duration, since| moment.saturating_sub(since).as_secs_f32();
    Ok(Row {
        event: "the whole control plane stopped, then a node without power for a moment (every process killed, pods' networks gone), with the static pod that stands by",
        seen: format!(
            "through that node, nothing until it serves from its disk, at most {} s after its power is back, and then nothing fails; through the others, {}; the DaemonSet's pod takes \
             over after the control plane's return",
            SERVES_WITHIN.as_secs(),
            few("502 or 504"),
        ),
        measured: format!(
            "through the others, {}; the node served again {:.1} s after its power was back, what was {age} s old; the DaemonSet's pod had taken over {:.1} s after the control plane's \
             return",
            seen.account(&[1, 2]),
            after(served, on),
            after(back, ended)
        ),
    })
}

/// Waits until the node that was lost serves, and some requests have been sent. When that was, and how old what it serves.
async fn serves_from_disk(site: &Site<'_>, watch: &Watch<'_>) -> anyhow::Result<(Duration, u64)> {
    let node = site.cluster.node(LOST);
    eventually("it serves from disk", SERVES_WITHIN, async || {
        let answer = site.get((node.address, 80).into(), HOST)?;
        ensure!(answer.status == 200, "{answer}");
        Ok(())
    })
    .await?;
    let served = watch.load.now();
    let age = install::metric(node, "nodegate_state_served_age_seconds")?;
    watch.load.ended(120).await?;
    Ok((served, age))
}
