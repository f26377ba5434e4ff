//! What breaks if something beside Nodegate fails: each fault is made, clients are watched, the fault is ended, and everything is whole again.

mod control_plane;
mod site;
mod table;

use crate::cluster::Cluster;
use site::Site;

pub async fn failures(cluster: &Cluster) -> anyhow::Result<()> {
    let site = Site::create(cluster).await?;
    let row = control_plane::api_server_stops(&site).await?;
    println!("failures: {}: {}; {}", row.fault, row.seen, row.lasts);
    site.remove()?;
    table::check(&[row])
}
