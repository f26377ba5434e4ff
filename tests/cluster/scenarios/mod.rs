//! What a cluster with Nodegate has to do, one file for each scenario. A scenario makes its own namespaces, and leaves the cluster as it found it.

mod changes;
mod failures;
mod faults;
mod https;
mod leaders;
mod lifecycle;
mod nodes;
mod random;
mod reference;
mod semantics;
mod table;
mod takeover;
mod upgrades;

use std::{future::Future, pin::Pin};

use crate::cluster::Cluster;

/// How a scenario is run.
pub type Run = fn(&Cluster) -> Outcome<'_>;
type Outcome<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// One of them.
#[derive(Debug)]
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// With how many nodes at least.
    pub nodes: usize,
    pub run: Run,
    /// What of it `--long` runs, for up to an hour.
    pub long: Option<Run>,
}

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario { name: "nodes", nodes: 1, run: |cluster| Box::pin(nodes::nodes(cluster)), long: None },
    Scenario { name: "faults", nodes: 3, run: |cluster| Box::pin(faults::faults(cluster)), long: None },
    Scenario { name: "install", nodes: 3, run: |cluster| Box::pin(lifecycle::lifecycle(cluster)), long: None },
    Scenario { name: "https", nodes: 3, run: |cluster| Box::pin(https::https(cluster)), long: None },
    Scenario { name: "reference", nodes: 3, run: |cluster| Box::pin(reference::reference(cluster)), long: None },
    Scenario { name: "leaders", nodes: 3, run: |cluster| Box::pin(leaders::leaders(cluster)), long: None },
    Scenario {
        name: "failures",
        nodes: 3,
        run: |cluster| Box::pin(failures::failures(cluster)),
        long: Some(|cluster| Box::pin(failures::soak(cluster))),
    },
    Scenario {
        name: "changes",
        nodes: 3,
        run: |cluster| Box::pin(changes::changes(cluster, &changes::SHORT)),
        long: Some(|cluster| Box::pin(changes::changes(cluster, &changes::LONG))),
    },
    Scenario {
        name: "upgrades",
        nodes: 3,
        run: |cluster| Box::pin(upgrades::upgrades(cluster)),
        long: Some(|cluster| Box::pin(upgrades::soak(cluster))),
    },
    Scenario {
        name: "random",
        nodes: 3,
        run: |cluster| Box::pin(random::random(cluster)),
        long: Some(|cluster| Box::pin(random::soak(cluster))),
    },
    Scenario { name: "semantics", nodes: 3, run: |cluster| Box::pin(semantics::semantics(cluster)), long: None },
    Scenario { name: "takeover", nodes: 1, run: |cluster| Box::pin(takeover::takeover(cluster)), long: None },
];
