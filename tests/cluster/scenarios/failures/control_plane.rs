//! The API server fails, or all of the control plane, and with it a Nodegate that has to start without it.

use std::time::Duration;

use anyhow::ensure;
use nodegate::config::limits::{API_TIMEOUT, LEASE_DURATION};

use super::{
    super::table::Row,
    site::{HOST, Site, WEB},
    watch::{Span, Watch},
};
use crate::{
    install,
    sample::{ingress, list},
    wait::eventually,
};

/// Beyond two thirds of the Lease's duration, after which nobody leads any more; far below the time after which the node controller calls nodes lost because it
/// hasn't heard of them (40 s here): it hears of them again up to half a minute after the outage.
const OUTAGE: Duration = LEASE_DURATION.saturating_sub(Duration::from_secs(3));
/// How long after the API server's return an edit is in force on every node: the longest pause between two tries to follow it, twice.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(10);
/// How long after it a new Ingress has every node's address: a new leader has seen an unchanged Lease for its duration, and has written.
const IN_STATUS_WITHIN: Duration = LEASE_DURATION.saturating_add(Duration::from_secs(10));
/// How long after its process was killed a node serves from disk: the API server is given its time, and the kubelet takes some seconds to start another one.
const FROM_DISK_WITHIN: Duration = API_TIMEOUT.saturating_add(Duration::from_secs(10));

pub async fn api_server_stops(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    // The edit that has to wait.
    let edit = list(&[ingress(WEB.namespace, "edited", "edited.example", WEB.name)]);
    let watch = Watch::begin(site).await?;
    let load = &watch.load;
    cluster.stop_api_server();
    let began = load.now();
    let refused = cluster.apply(&edit);
    while load.now() < began + OUTAGE {
        load.ended(30).await?;
    }
    let fault = Span { began, ended: load.now() };
    cluster.start_api_server().await?;
    let back = load.now();
    cluster.apply(&edit)?;
    cluster.serves("edited.example").await?;
    let in_force = load.now().saturating_sub(back);
    for node in &cluster.nodes {
        site.in_status("edited", node, true).await?;
    }
    let in_status = load.now().saturating_sub(back);
    let seen = watch.end(fault).await?;
    cluster.kubectl(&["delete", "ingress", "edited", "--namespace=failures"])?;
    ensure!(refused.is_err(), "an edit went through without an API server");
    seen.cuts(&[], fault.began)?;
    seen.spares(&[1, 2, 3])?;
    ensure!(in_force < IN_FORCE_WITHIN, "an edit was in force {in_force:?} after the API server was back");
    ensure!(in_status < IN_STATUS_WITHIN, "a new Ingress had its addresses {in_status:?} after the API server was back");
    Ok(Row {
        event: "API server stopped",
        seen: format!(
            "nothing; edits are refused, and after its return in force within {} s, and a new Ingress has its addresses within {} s",
            IN_FORCE_WITHIN.as_secs(),
            IN_STATUS_WITHIN.as_secs()
        ),
        measured: format!(
            "{}; stopped for {:.0} s, longer than a leader leads without it; an edit was in force on every node {:.1} s after it was back, and the addresses were there \
             after {:.1} s",
            seen.account(&[1, 2, 3]),
            fault.seconds(),
            in_force.as_secs_f32(),
            in_status.as_secs_f32()
        ),
    })
}

/// On the last node, Nodegate is killed, too, and starts with nothing but what is on disk.
pub async fn all_of_it_stops(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    let (node, others) = (&cluster.nodes[2], [1, 2]);
    let watch = Watch::begin(site).await?;
    let load = &watch.load;
    cluster.stop_control_plane();
    let began = load.now();
    let during = async {
        install::kill(node).await?;
        let killed = load.now();
        eventually("it serves from disk", FROM_DISK_WITHIN, async || {
            let answer = site.get((node.address, 80).into(), HOST)?;
            ensure!(answer.status == 200, "{answer}");
            Ok(())
        })
        .await?;
        let served = Span { began: killed, ended: load.now() };
        let age = install::metric(node, "nodegate_state_served_age_seconds")?;
        load.ended(60).await?;
        anyhow::Ok((served, age))
    }
    .await;
    let ended = load.now();
    cluster.restart_control_plane().await?;
    let (served, age) = during?;
    let edit = list(&[ingress(WEB.namespace, "after", "after.example", WEB.name)]);
    cluster.apply(&edit)?;
    cluster.serves("after.example").await?;
    ensure!(install::metric(node, "nodegate_state_served_age_seconds").is_err(), "{} still serves from disk", node.name);
    let seen = watch.end(Span { began, ended }).await?;
    cluster.kubectl(&["delete", "ingress", "after", "--namespace=failures"])?;
    seen.cuts(&[], began)?;
    seen.spares(&others)?;
    let last = seen.last_failure(&[3], served.ended);
    ensure!(last.is_zero(), "a request through {} failed {last:?} after it served again", node.name);
    Ok(Row {
        event: "the whole control plane stopped, then a node's Nodegate killed",
        seen: format!(
            "through that node, until it serves from its disk, no connection or 503, at most {} s in all; through the others, nothing; edits are in force after its return",
            FROM_DISK_WITHIN.as_secs()
        ),
        measured: format!(
            "through the others, {}; that node served again {:.1} s after its process was killed, what was {age} s old, and none of its requests failed after that",
            seen.account(&others),
            served.seconds(),
        ),
    })
}
