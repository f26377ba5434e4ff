//! What goes on in a cluster that is well: backends are updated and fail, others' Ingresses are edited by the hundred, descriptors and a disk run out. Clients of all
//! nodes are watched meanwhile.

pub mod abrupt;
mod connection;
mod descriptors;
mod disk;
mod edits;
mod held;
mod rollouts;
pub mod site;
pub mod usage;

use super::table::Rows;
use crate::cluster::Cluster;
use disk::FullDisk;
use site::Site;

/// How much of everything.
#[derive(Debug)]
pub struct Extent {
    /// Requests a second, over all nodes.
    pub rate: u32,
    /// Rolling updates of the backend, at least; and requests during them, at least.
    pub updates: usize,
    pub requests: u32,
    /// Pods that stop abruptly, in either way.
    pub deaths: usize,
    /// Edits of other hosts' Ingresses. They last long enough for two tables.
    pub edits: usize,
}

/// About three minutes.
pub const SHORT: Extent = Extent { rate: 100, updates: 2, requests: 3_000, deaths: 1, edits: 200 };
/// For a machine that has nothing else to do, for eight minutes.
pub const LONG: Extent = Extent { rate: 250, updates: 4, requests: 50_000, deaths: 4, edits: 1_000 };

pub async fn changes(cluster: &Cluster, extent: &Extent) -> anyhow::Result<()> {
    // Before Nodegate comes to it.
    let full = FullDisk::mount(cluster.node(3));
    let site = Site::create(cluster).await?;
    let mut rows = Rows::of("changes", "What changes");
    let seen = full.is_told(&site).await?;
    rows.push(rollouts::backend_is_updated(&site, extent).await?);
    rows.push(abrupt::pods_stop_abruptly(&site, extent).await?);
    rows.push(edits::others_are_edited(&site, extent).await?);
    rows.push(descriptors::run_out(&site).await?);
    rows.push(full.is_over(seen).await?);
    site.remove()?;
    full.unmount();
    rows.check()
}
