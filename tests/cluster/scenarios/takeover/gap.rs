//! What clients saw while Traefik went, and the table of it in docs/migrate-from-traefik.md.

use std::time::Duration;

use anyhow::{bail, ensure};

use crate::{document, load::Tally};

const GUIDE: &str = "docs/migrate-from-traefik.md";
/// No node is without an answer for longer. Some two seconds are measured: as long as the kernel takes to give up on the address of a pod that is gone.
const LONGEST: Duration = Duration::from_secs(5);

/// When, in the load's time, Traefik was told to go, and when every node's port 80 was Nodegate's alone.
pub struct Window {
    pub began: Duration,
    pub alone: Duration,
}

/// Prints the figures, and writes them into the guide if asked to, else compares what the guide's table is about.
pub fn report(tally: &Tally, rate: u32, window: &Window) -> anyhow::Result<()> {
    let alone_after = window.alone.saturating_sub(window.began);
    let fresh = tally.failed.iter().filter(|failure| failure.fresh).count();
    let kept = tally.failed.len() - fresh;
    let slowest = tally.failed.iter().map(|failure| failure.took).max().unwrap_or_default();
    println!(
        "takeover: Traefik removed under {rate} requests/s: {} of {} failed ({fresh} on fresh connections, {kept} on kept ones, the slowest after {:.2} s), \
         longest gap at a node {:.2} s, Nodegate alone on all after {:.1} s",
        tally.failed.len(),
        tally.sent,
        slowest.as_secs_f32(),
        tally.longest_gap.as_secs_f32(),
        alone_after.as_secs_f32(),
    );
    for failure in tally.failed.iter().take(3) {
        println!("takeover: for example {failure}");
    }
    let outside = tally.failed.iter().find(|failure| failure.sent < window.began || failure.sent > window.alone);
    if let Some(failure) = outside {
        bail!("only from {:?} to {:?} may a request fail, but one was sent {failure}", window.began, window.alone);
    }
    ensure!(tally.longest_gap < LONGEST, "a node didn't answer for {:?}", tally.longest_gap);
    let table = format!(
        "| what | measured |\n|---|---|\n\
         | requests sent while Traefik was removed ({rate} a second, three nodes in turn) | {} |\n\
         | failed on fresh connections | {fresh} |\n\
         | failed on kept connections | {kept} |\n\
         | longest time that a failure took | {:.2} s |\n\
         | longest time without an answer from a node | {:.2} s |\n\
         | from `kubectl delete` until every node's port 80 was Nodegate's alone | {:.1} s |\n",
        tally.sent,
        slowest.as_secs_f32(),
        tally.longest_gap.as_secs_f32(),
        alone_after.as_secs_f32(),
    );
    document::keep(GUIDE, &table)
}
