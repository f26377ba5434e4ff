//! A process is killed, as a crash or the kernel's want of memory does it. The kubelet starts another one.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};

use super::{
    super::{lifecycle::process::Process, table::Row},
    site::Site,
    watch::{Seen, Watch},
};
use crate::install;

/// From a process's start until its first answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

pub async fn process_is_killed(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.bare.cluster;
    let node = cluster.node(2);
    let door = SocketAddr::from((node.address, 80));
    let watch = Watch::begin(&site.bare).await?;
    let killed = watch.load.now();
    install::kill(node).await?;
    let gone = watch.load.now();
    let first = watch.load.answers_again(door, gone).await?;
    let answered = first.sent + first.took;
    let new = Process::on_every_node(cluster)?.into_iter().find(|process| process.node == node.name).context("no new process")?;
    let started = watch.load.now().checked_sub(new.age()?).with_context(|| format!("it started before the load: {new}"))?;
    install::rolled_out(cluster).await?;
    let seen = watch.end().await?;
    let spared: Vec<SocketAddr> = site.bare.targets.iter().copied().filter(|target| *target != door).collect();
    only_that_node_failed(&seen, door, killed, answered)?;
    ensure!(started >= killed, "the process that answers is older than the fault");
    let start = answered.saturating_sub(started);
    ensure!(start < ANSWERS_WITHIN, "the first answer came {start:?} after the process's start");
    Ok(Row {
        event: "a node's process killed (`kill -9`)",
        seen: format!(
            "through that node, what was under way ends, WebSockets too, and connections are refused until another process answers, less than {} s after its start; \
             through the others, nothing",
            ANSWERS_WITHIN.as_secs()
        ),
        measured: format!(
            "through that node, {}, none of them sent after its next answer, {:.1} s after the kill and {:.2} s after the new process's start, and {} WebSockets \
             broke; through the others, {}",
            seen.account(&[door]),
            answered.saturating_sub(killed).as_secs_f32(),
            start.as_secs_f32(),
            seen.websockets.broken().count(),
            seen.account(&spared),
        ),
    })
}

/// What was under way there, or was sent before it answered again.
fn only_that_node_failed(seen: &Seen, door: SocketAddr, killed: Duration, answered: Duration) -> anyhow::Result<()> {
    let needless = seen.requests.failed.iter().find(|failure| {
        let meanwhile = failure.sent + failure.took >= killed && failure.sent <= answered;
        failure.target != door || !meanwhile
    });
    ensure!(
        needless.is_none(),
        "killed at {killed:?}, answered at {answered:?}, and failed {}",
        needless.map(ToString::to_string).unwrap_or_default()
    );
    let elsewhere = seen.websockets.ended.iter().find(|end| end.target != door);
    ensure!(elsewhere.is_none(), "a WebSocket ended through another node: {}", elsewhere.map(ToString::to_string).unwrap_or_default());
    ensure!(seen.websockets.broken().count() > 0, "no WebSocket broke: nothing was killed");
    Ok(())
}
