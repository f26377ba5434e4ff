//! Everything that happens to a cluster, one after the other at random, under requests and WebSockets to all nodes: each failure is one that docs/failures.md
//! explains, and no memory is left behind. A run is told by its seed: `NODEGATE_SEED` runs it again.

mod account;
mod act;
mod memory;

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    changes::site::Site,
    table::{Row, Rows},
};
use crate::cluster::Cluster;
use account::Account;
use act::Act;
use memory::Memory;

/// The variable that has the seed, of a run that is to be repeated.
const SEED: &str = "NODEGATE_SEED";

/// How long it goes on: each thing happens once, and all of them again in another order until that time is over.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// What its row calls it.
    pub event: &'static str,
    pub lasts: Duration,
    /// `None`: another one each time.
    pub seed: Option<u64>,
    pub acts: &'static [&'static [Act]],
}

/// What CI runs is the same each time: a change that fails it is to be the reason. By this seed no pod is waited for right after the API server was away, of whose return
/// some kubelets hear a minute later.
const SHORT: Length = Length {
    event: "what of that is over within seconds, each once, in an order drawn at random",
    lasts: Duration::ZERO,
    seed: Some(24),
    acts: &[act::QUICK],
};
const LONG: Length = Length {
    event: "all of that at random, one after the other, for half an hour (`make soak`)",
    lasts: Duration::from_mins(30),
    seed: None,
    acts: &[act::QUICK, act::SLOW],
};

/// In `make e2e`.
pub async fn random(cluster: &Cluster) -> anyhow::Result<()> {
    let mut rows = Rows::of("random", "What happens");
    rows.push(run(cluster, SHORT).await?);
    rows.check()
}

/// In `make soak`.
pub async fn soak(cluster: &Cluster) -> anyhow::Result<()> {
    let mut rows = Rows::of("random at length", "What happens");
    rows.push(run(cluster, LONG).await?);
    rows.check()
}

async fn run(cluster: &Cluster, length: Length) -> anyhow::Result<Row> {
    let seed = seed(length)?;
    println!("random: {SEED}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let site = Site::create(cluster).await?;
    // Processes that are new, both times: what they are compared by has the same age.
    let before = Memory::of_new_processes(&site).await?;
    let (mut account, began, mut acts) = (Account::begin(&site).await?, Instant::now(), Act::shuffled(length.acts, &mut random));
    loop {
        while let Some(act) = acts.pop() {
            act.happen(&site, &mut account, &mut random).await.with_context(|| format!("{act:?}, of {SEED}={seed}"))?;
        }
        if began.elapsed() >= length.lasts {
            break;
        }
        acts = Act::shuffled(length.acts, &mut random);
    }
    let took = began.elapsed();
    let clients = account.end().await.with_context(|| format!("of {SEED}={seed}"))?;
    let after = Memory::of_new_processes(&site).await?;
    after.is_no_more_than(&before)?;
    site.remove()?;
    Ok(Row {
        event: length.event,
        seen: format!("what the rows above say of each; memory of new processes is within {} % of what it was", memory::MORE),
        measured: format!(
            "{} in {:.0} s; {}; memory of the three processes {} MiB before and {} MiB after",
            clients.acts(),
            took.as_secs_f32(),
            clients.account(),
            before.listed(),
            after.listed(),
        ),
    })
}

fn seed(length: Length) -> anyhow::Result<u64> {
    match env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED}={text} is no number")),
        Err(_) => Ok(length.seed.unwrap_or_else(|| fastrand::u64(..))),
    }
}
