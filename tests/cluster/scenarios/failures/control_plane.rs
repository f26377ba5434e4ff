//! The API server fails.

use anyhow::{Context, ensure};

use super::{site::Site, table::Row};

/// The edit that has to wait.
const EDIT: &str = r"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: edited, namespace: failures }
spec:
  ingressClassName: nodegate
  rules:
  - host: edited.example
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] }
";

pub async fn api_server_stops(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    let load = site.load(super::site::HOST);
    load.ended(30).await?;
    cluster.stop_api_server();
    let stopped = load.now();
    let refused = cluster.apply(EDIT);
    load.ended(120).await?;
    cluster.start_api_server().await?;
    let back = load.now();
    cluster.apply(EDIT)?;
    site.answers("edited.example").await?;
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
