//! New versions of Nodegate, good and bad, and the end of a process, under requests and WebSockets to all nodes: none fails that needn't.

mod broken;
mod crash;
mod drains;
mod restarts;
mod site;
mod traefik;
mod watch;

use super::table::Rows;
use crate::cluster::Cluster;
use restarts::Length;
use site::Site;

const SHORT: Length =
    Length { event: "`kubectl rollout restart daemonset/nodegate`, and once more as soon as that is done", upgrades: 2, requests: 0 };
const LONG: Length =
    Length { event: "`kubectl rollout restart daemonset/nodegate`, again and again (`make soak`)", upgrades: 10, requests: 100_000 };

pub async fn upgrades(cluster: &Cluster) -> anyhow::Result<()> {
    let site = Site::create(cluster).await?;
    let mut rows = Rows::of("upgrades", "What happens");
    rows.push(restarts::nodegate(&site, SHORT).await?);
    rows.push(broken::crashes_at_start(&site).await?);
    rows.push(broken::never_becomes_ready(&site).await?);
    rows.push(crash::process_is_killed(&site).await?);
    let bare = site.uninstall()?;
    rows.push(traefik::restarts(&bare).await?);
    bare.remove()?;
    rows.check()
}

/// The upgrades alone, many of them.
pub async fn soak(cluster: &Cluster) -> anyhow::Result<()> {
    let site = Site::create(cluster).await?;
    let mut rows = Rows::of("soak", "What happens");
    rows.push(restarts::nodegate(&site, LONG).await?);
    site.uninstall()?.remove()?;
    rows.check()
}
