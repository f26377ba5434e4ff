//! What breaks if something beside Nodegate fails: each fault is made, clients are watched, the fault is ended, and everything is whole again.

mod control_plane;
mod dns;
mod network;
mod site;
mod watch;

use super::table::Rows;
use crate::cluster::Cluster;
use site::Site;

pub async fn failures(cluster: &Cluster) -> anyhow::Result<()> {
    let site = Site::create(cluster).await?;
    let mut rows = Rows::of("failures", "What fails");
    rows.push(control_plane::api_server_stops(&site).await?);
    rows.push(network::overlay_breaks(&site).await?);
    rows.push(network::overlay_is_blocked(&site).await?);
    rows.push(network::link_goes_down(&site).await?);
    rows.push(network::kube_proxy_stops(&site).await?);
    rows.push(dns::cluster_dns_stops(&site).await?);
    rows.push(control_plane::all_of_it_stops(&site).await?);
    site.remove()?;
    rows.check()
}
