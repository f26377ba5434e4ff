//! `kubectl rollout restart`: on one node after the other, a new process takes the sockets over, and the old one drains.

use std::time::Instant;

use anyhow::ensure;

use super::{
    super::table::Row,
    drains::Drains,
    site::Site,
    watch::{WEBSOCKETS, Watch},
};
use crate::{install, load::Tally};

/// If all WebSockets of one of three nodes were told at once, it were twice as many.
const AT_ONCE: usize = WEBSOCKETS as usize / 6;

/// How long this goes on: until both are reached.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// What its row calls it.
    pub event: &'static str,
    pub upgrades: usize,
    pub requests: u32,
}

pub async fn nodegate(site: &Site<'_>, length: Length) -> anyhow::Result<Row> {
    let cluster = site.bare.cluster;
    let drains = Drains::follow(cluster);
    let watch = Watch::begin(&site.bare).await?;
    let began = Instant::now();
    let mut upgrades = 0;
    while upgrades < length.upgrades || watch.load.so_far(|tally| tally.sent) < length.requests {
        install::rollout(cluster, &["restart"])?;
        install::rollout(cluster, &["status", "--timeout=180s"])?;
        upgrades += 1;
        // At once, while the pods have their logs.
        watch.load.so_far(Tally::all_succeeded)?;
    }
    install::rolled_out(cluster).await?;
    let took = began.elapsed();
    let seen = watch.end().await?;
    seen.nothing_was_lost()?;
    let (first, last) = drains.explain(seen.websockets.told())?;
    let (told, most) = (seen.websockets.told().count(), seen.websockets.most_told_in_a_second());
    let (ended, wanted) = (drains.count(), upgrades * cluster.nodes.len());
    ensure!(ended == wanted, "{ended} pods were told to end, not {wanted}");
    ensure!(told >= WEBSOCKETS as usize, "{told} WebSockets were told, of {WEBSOCKETS} whose process has ended");
    ensure!(most < AT_ONCE, "{most} WebSockets were told within one second");
    Ok(Row {
        event: length.event,
        seen: format!(
            "nothing, but that each of {WEBSOCKETS} WebSockets is told (`Close`, 1001) in the second half of its process's drain, fewer than {AT_ONCE} in any second"
        ),
        measured: format!(
            "{upgrades} times, in {:.0} s: {}, none was refused; {told} WebSockets were told, {:.0} to {:.0} s after their drains began, at most {most} within one \
             second, and {} ended otherwise; {} of their messages came back",
            took.as_secs_f32(),
            seen.account(&site.bare.targets),
            first.as_secs_f32(),
            last.as_secs_f32(),
            seen.websockets.lost().count(),
            seen.websockets.echoes,
        ),
    })
}
