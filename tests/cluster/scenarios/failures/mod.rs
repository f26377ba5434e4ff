//! What breaks if something beside Nodegate fails: each fault is made, clients are watched, the fault is ended, and everything is whole again.

mod backup;
mod control_plane;
mod dns;
mod network;
mod reboot;
mod site;
mod watch;

use super::table::Rows;
use std::time::Duration;

use crate::cluster::Cluster;
use control_plane::Outage;
use site::Site;

const SHORT: Outage =
    Outage { event: "the whole control plane stopped, then a node's Nodegate killed", killed: &[3], lasts: Duration::ZERO };
const LONG: Outage = Outage {
    event: "the whole control plane stopped for ten minutes, and Nodegate killed meanwhile on one node after the other (`make soak`)",
    killed: &[1, 2, 3],
    lasts: Duration::from_mins(10),
};

pub async fn failures(cluster: &Cluster) -> anyhow::Result<()> {
    let site = Site::create(cluster).await?;
    let mut rows = Rows::of("failures", "What fails");
    rows.push(control_plane::api_server_stops(&site).await?);
    rows.push(network::overlay_breaks(&site).await?);
    rows.push(network::overlay_is_blocked(&site).await?);
    rows.push(network::link_goes_down(&site).await?);
    rows.push(network::kube_proxy_stops(&site).await?);
    rows.push(dns::cluster_dns_stops(&site).await?);
    rows.push(control_plane::all_of_it_stops(&site, SHORT).await?);
    rows.push(reboot::node_reboots(&site).await?);
    rows.push(backup::etcd_is_set_back(&site).await?);
    site.remove()?;
    rows.check()
}

/// The control plane alone, for long.
pub async fn soak(cluster: &Cluster) -> anyhow::Result<()> {
    let site = Site::create(cluster).await?;
    let mut rows = Rows::of("failures at length", "What fails");
    rows.push(control_plane::all_of_it_stops(&site, LONG).await?);
    site.remove()?;
    rows.check()
}
