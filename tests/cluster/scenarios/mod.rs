//! What a cluster with Nodegate has to do, one file for each scenario. A scenario makes its own namespaces, and leaves the cluster as it found it.

mod nodes;

use std::{future::Future, pin::Pin};

use crate::cluster::Cluster;

type Outcome<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// One of them.
#[derive(Debug)]
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    pub run: fn(&Cluster) -> Outcome<'_>,
}

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[Scenario { name: "nodes", run: |cluster| Box::pin(nodes::nodes(cluster)) }];
