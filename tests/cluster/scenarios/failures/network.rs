//! The network between nodes fails.

use std::time::Duration;

use anyhow::ensure;

use super::{
    site::{HOST, Site, account, recovery, spared},
    table::Row,
};
use crate::network;

pub async fn overlay_breaks(site: &Site<'_>) -> anyhow::Result<Row> {
    let (first, second) = (site.cluster.node(1), site.cluster.node(2));
    let broken = |broken| network::set_overlay(first, second, broken);
    let (seen, lasts) = observe(site, broken, &[2]).await?;
    Ok(Row { fault: "overlay broken between two nodes", seen: format!("through these two nodes, {seen}"), lasts })
}

pub async fn overlay_is_blocked(site: &Site<'_>) -> anyhow::Result<Row> {
    let blocked = |blocked| [2, 3].iter().for_each(|other| network::set_overlay(site.cluster.node(1), site.cluster.node(*other), blocked));
    let (seen, lasts) = observe(site, blocked, &[]).await?;
    Ok(Row { fault: "UDP 8472 blocked by one node's firewall", seen: format!("through all nodes, {seen}"), lasts })
}

/// Makes the fault, and ends it. `spares` are the nodes' indices that it doesn't concern.
async fn observe(site: &Site<'_>, set: impl Fn(bool), spares: &[usize]) -> anyhow::Result<(String, String)> {
    let load = site.load(HOST);
    load.ended(60).await?;
    set(true);
    let began = load.now();
    let during = load.ended(240).await;
    set(false);
    let ended = load.now();
    during?;
    // Those that hang are still to fail, and what follows has to be well.
    load.ended(120).await?;
    let tally = load.stop();
    site.answers(HOST).await?;
    let targets: Vec<_> = spares.iter().map(|index| site.targets[*index]).collect();
    spared(&tally, &targets)?;
    ensure!(!tally.failed.is_empty() || tally.slowest > Duration::from_secs(1), "no request met the fault");
    let (fault, recovery) = (ended.saturating_sub(began).as_secs_f32(), recovery(&tally, ended).as_secs_f32());
    Ok((account(&tally), format!("broken for {fault:.0} s; the last request that failed was sent {recovery:.1} s after that")))
}
