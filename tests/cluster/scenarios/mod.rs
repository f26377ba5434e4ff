//! What a cluster with Nodegate has to do, one file for each scenario. A scenario makes its own namespaces, and leaves the cluster as it found it.

mod failures;
mod faults;
mod https;
mod leaders;
mod lifecycle;
mod nodes;
mod reference;
mod semantics;
mod table;
mod takeover;
mod upgrades;

use std::{future::Future, pin::Pin};

use crate::cluster::Cluster;

type Outcome<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// One of them.
#[derive(Debug)]
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// With how many nodes at least.
    pub nodes: usize,
    pub run: fn(&Cluster) -> Outcome<'_>,
}

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario { name: "nodes", nodes: 1, run: |cluster| Box::pin(nodes::nodes(cluster)) },
    Scenario { name: "faults", nodes: 3, run: |cluster| Box::pin(faults::faults(cluster)) },
    Scenario { name: "install", nodes: 3, run: |cluster| Box::pin(lifecycle::lifecycle(cluster)) },
    Scenario { name: "https", nodes: 3, run: |cluster| Box::pin(https::https(cluster)) },
    Scenario { name: "reference", nodes: 3, run: |cluster| Box::pin(reference::reference(cluster)) },
    Scenario { name: "leaders", nodes: 3, run: |cluster| Box::pin(leaders::leaders(cluster)) },
    Scenario { name: "failures", nodes: 3, run: |cluster| Box::pin(failures::failures(cluster)) },
    Scenario { name: "upgrades", nodes: 3, run: |cluster| Box::pin(upgrades::upgrades(cluster)) },
    Scenario { name: "semantics", nodes: 3, run: |cluster| Box::pin(semantics::semantics(cluster)) },
    Scenario { name: "takeover", nodes: 1, run: |cluster| Box::pin(takeover::takeover(cluster)) },
];
