//! The API server fails.

use anyhow::{Context, ensure};

use super::{
    site::{HOST, Site, WEB},
    table::Row,
};
use crate::sample::{ingress, list};

pub async fn api_server_stops(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    // The edit that has to wait.
    let edit = list(&[ingress(WEB.namespace, "edited", "edited.example", WEB.name)]);
    let load = site.load(HOST);
    load.ended(30).await?;
    cluster.stop_api_server();
    let stopped = load.now();
    let refused = cluster.apply(&edit);
    load.ended(120).await?;
    cluster.start_api_server().await?;
    let back = load.now();
    cluster.apply(&edit)?;
    cluster.serves("edited.example").await?;
    let live = load.now();
    load.ended(30).await?;
    let tally = load.stop();
    cluster.kubectl(&["delete", "ingress", "edited", "--namespace=failures"])?;
    ensure!(refused.is_err(), "an edit went through without an API server");
    tally.all_succeeded().context("requests need no API server")?;
    Ok(Row {
        fault: "API server stopped",
        seen: format!(
            "nothing: none of {} requests failed, the slowest took {:.2} s; edits are refused",
            tally.sent,
            tally.slowest.as_secs_f32()
        ),
        lasts: format!(
            "stopped for {:.0} s; an edit was in force on every node {:.1} s after it was back",
            back.saturating_sub(stopped).as_secs_f32(),
            live.saturating_sub(back).as_secs_f32()
        ),
    })
}
