//! The API server fails, or all of the control plane, and with it a Nodegate that has to start without it.

use std::time::Duration;

use anyhow::{Context, ensure};
use nodegate::config::limits::{API_TIMEOUT, LEASE_DURATION};

use super::{
    super::{lifecycle::process::Process, table::Row},
    site::{HOST, Site, WEB},
    watch::{Span, Watch},
};
use crate::{
    install,
    load::Load,
    sample::{ingress, list},
    wait::eventually,
};

/// Beyond two thirds of the Lease's duration, after which nobody leads any more; far below the time after which the node controller calls nodes lost because it
/// hasn't heard of them (40 s here): it hears of them again up to half a minute after the outage.
const OUTAGE: Duration = LEASE_DURATION.saturating_sub(Duration::from_secs(3));
/// How long after the API server's return an edit is in force on every node: the longest pause between two tries to follow it, twice.
pub const IN_FORCE_WITHIN: Duration = Duration::from_secs(10);
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

/// How long the control plane is away, and on which nodes Nodegate is killed meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// What its row calls it.
    pub event: &'static str,
    /// Their numbers; those of the others are the other nodes.
    pub killed: &'static [usize],
    pub lasts: Duration,
}

/// On some nodes, Nodegate is killed, too, and starts with nothing but what is on disk.
pub async fn all_of_it_stops(site: &Site<'_>, outage: Outage) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    let watch = Watch::begin(site).await?;
    let load = &watch.load;
    cluster.stop_control_plane();
    let began = load.now();
    let during = async {
        let mut starts = Vec::new();
        for number in outage.killed {
            starts.push((*number, start_from_disk(site, *number, load).await?));
        }
        load.ended(60).await?;
        while load.now() < began + outage.lasts {
            load.ended(60).await?;
        }
        anyhow::Ok(starts)
    }
    .await;
    let ended = load.now();
    cluster.restart_control_plane().await?;
    let starts = during?;
    let edit = list(&[ingress(WEB.namespace, "after", "after.example", WEB.name)]);
    cluster.apply(&edit)?;
    cluster.serves("after.example").await?;
    for node in &cluster.nodes {
        ensure!(install::metric(node, "nodegate_state_served_age_seconds").is_err(), "{} still serves from disk", node.name);
    }
    let seen = watch.end(Span { began, ended }).await?;
    cluster.kubectl(&["delete", "ingress", "after", "--namespace=failures"])?;
    seen.cuts(&[], began)?;
    let spans: Vec<(usize, Span)> = starts.iter().map(|(number, start)| (*number, start.span)).collect();
    seen.fails_only_in(&spans)?;
    let others: Vec<usize> = (1..=cluster.nodes.len()).filter(|number| !outage.killed.contains(number)).collect();
    let through_the_others = if others.is_empty() { "nothing fails after that" } else { "through the others, nothing" };
    Ok(Row {
        event: outage.event,
        seen: format!(
            "through that node, until it serves from its disk, no connection or 503, at most {} s in all; {through_the_others}; edits are in force after its return",
            FROM_DISK_WITHIN.as_secs()
        ),
        measured: format!(
            "stopped for {:.0} s; {}; {}",
            ended.saturating_sub(began).as_secs_f32(),
            if others.is_empty() {
                format!("{} in all", seen.account(&[1, 2, 3]))
            } else {
                format!("through the others, {}", seen.account(&others))
            },
            starts.iter().map(|(_, start)| start.told()).collect::<Vec<_>>().join("; ")
        ),
    })
}

/// How a node served again.
struct Start {
    node: String,
    /// From the end of its process until the next one served.
    span: Span,
    /// How old the process was then.
    age: Duration,
    /// What it serves, in seconds.
    served_age: u64,
}

impl Start {
    fn told(&self) -> String {
        let Self { node, span, age, served_age } = self;
        let age = age.as_secs_f32();
        format!(
            "{node} served again {:.1} s after its process was killed, and {age:.1} s after the next one's start, what was {served_age} s old, and none of its requests failed after \
             that",
            span.seconds()
        )
    }
}

/// Kills Nodegate on a node, and waits until it serves again.
async fn start_from_disk(site: &Site<'_>, number: usize, load: &Load) -> anyhow::Result<Start> {
    let node = site.cluster.node(number);
    let began = load.now();
    install::kill(node).await?;
    eventually("it serves from disk", FROM_DISK_WITHIN, async || {
        let answer = site.get((node.address, 80).into(), HOST)?;
        ensure!(answer.status == 200, "{answer}");
        Ok(())
    })
    .await?;
    let span = Span { began, ended: load.now() };
    let process = Process::on_every_node(site.cluster)?.into_iter().find(|process| process.node == node.name).context("no process")?;
    let age = process.age()?;
    let served_age = install::metric(node, "nodegate_state_served_age_seconds")?;
    Ok(Start { node: node.name.clone(), span, age, served_age })
}
