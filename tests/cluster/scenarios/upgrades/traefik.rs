//! The same restart of Traefik in the nodes' own network, for comparison. It can't hand its sockets over, so the old pod ends before the new one starts.

use std::time::Instant;

use anyhow::ensure;
use serde_json::json;

use super::{
    super::{
        table::Row,
        takeover::objects::{self, Port, TRAEFIK_NAMESPACE},
    },
    site::{Bare, HOST, WEB},
    watch::Watch,
};
use crate::{
    images::TRAEFIK,
    sample::{ingress, list},
};

pub async fn restarts(site: &Bare<'_>) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    cluster.load(TRAEFIK);
    let mut object = ingress(WEB.namespace, "traefik", HOST, WEB.name);
    object["spec"]["ingressClassName"] = json!("traefik");
    cluster.apply(&list(&[object]))?;
    cluster.apply(&objects::traefik(Port::Own))?;
    site.cluster.rollout(TRAEFIK_NAMESPACE, "daemonset/traefik", &["status", "--timeout=90s"])?;
    cluster.serves(HOST).await?;

    let watch = Watch::begin(site).await?;
    let began = Instant::now();
    site.cluster.rollout(TRAEFIK_NAMESPACE, "daemonset/traefik", &["restart"])?;
    site.cluster.rollout(TRAEFIK_NAMESPACE, "daemonset/traefik", &["status", "--timeout=180s"])?;
    let took = began.elapsed();
    cluster.serves(HOST).await?;
    let seen = watch.end().await?;
    cluster.kubectl_with(&["delete", "--timeout=90s", "--filename=-"], &objects::traefik(Port::Own))?;
    let silent = site.targets.iter().find(|target| seen.requests.succeeded.iter().all(|success| success.target != **target));
    ensure!(silent.is_none(), "nothing is measured of {silent:?}");
    let refused = seen.requests.failed.iter().filter(|failure| failure.what.contains("refused")).count();
    Ok(Row {
        event: "for comparison: `kubectl rollout restart` of Traefik in the nodes' own network",
        seen: "one node after the other answers nobody until its new pod does, as host ports allow no other way; nothing is asserted of it"
            .to_owned(),
        measured: format!(
            "{}, {refused} of them because no connection could be made; a node was silent for up to {:.1} s; {} WebSockets were told, and {} broke; all in {:.0} s",
            seen.account(&site.targets),
            seen.requests.longest_gap.as_secs_f32(),
            seen.websockets.told().count(),
            seen.websockets.broken().count(),
            took.as_secs_f32(),
        ),
    })
}
