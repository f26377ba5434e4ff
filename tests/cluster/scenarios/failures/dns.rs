//! Cluster DNS fails.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    super::table::Row,
    site::{Site, WEB},
    watch::{Span, Watch},
};
use crate::{
    cluster::LOGS,
    daemon::Daemon,
    dns::TTL,
    images,
    sample::{ingress, list},
    wait::{PATIENCE, eventually},
};

/// Of the server in the clients' namespace: an ExternalName's port is the one that the Ingress names.
const PORT: u16 = 80;
/// Asked before DNS stops, and first asked while it is stopped.
const KNOWN: &str = "known.example";
const NEW: &str = "new.example";
/// How long after its return a name is served that couldn't be resolved meanwhile: a failure is remembered for 5 s, and asking may take 2 s.
const RESOLVED_WITHIN: Duration = Duration::from_secs(10);

pub async fn cluster_dns_stops(site: &Site<'_>) -> anyhow::Result<Row> {
    let outside = outside(site);
    outside.start();
    let row = with_server(site).await;
    outside.stop();
    row
}

async fn with_server(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    let of = |name: &str, host: &str, target: &str| [external(name, target), ingress(WEB.namespace, name, host, name)];
    cluster.apply(&list(&[of("known", KNOWN, "c10.external.test"), of("new", NEW, "c11.external.test")].concat()))?;
    cluster.serves(KNOWN).await?;
    let (watch, external) = (Watch::begin(site).await?, site.load(KNOWN));
    let load = &watch.load;
    // What one of a node's worker threads has resolved serves the others.
    external.ended(30).await?;
    scale(site, 0)?;
    let began = load.now();
    let during = async {
        eventually("cluster DNS has no pods", PATIENCE, async || {
            let pods = cluster.kubectl(&["get", "pods", "--namespace=kube-system", "--selector=k8s-app=kube-dns", "--output=name"])?;
            ensure!(pods.is_empty(), "{pods}");
            Ok(())
        })
        .await?;
        // The name's answer holds no longer, and the load goes on for as long again.
        let gone = load.now();
        while load.now() < gone + 2 * TTL {
            load.ended(30).await?;
        }
        site.get(site.targets[0], NEW)
    }
    .await;
    scale(site, 1)?;
    let new = during?;
    cluster.rolled_out("kube-system", "coredns", PATIENCE).await?;
    let fault = Span { began, ended: load.now() };
    cluster.serves(NEW).await?;
    let resolved = load.now().saturating_sub(fault.ended);
    let (seen, kept) = (watch.end(fault).await?, external.stop());
    cluster.kubectl(&["delete", "service,ingress", "known", "new", "--namespace=failures"])?;
    seen.cuts(&[], fault.began).context("Services with pods need no DNS")?;
    seen.spares(&[1, 2, 3]).context("Services with pods need no DNS")?;
    kept.all_succeeded().context("an ExternalName keeps its last answer")?;
    ensure!([502, 504].contains(&new.status), "a name that was never resolved: {new}");
    ensure!(resolved < RESOLVED_WITHIN, "the new name was served {resolved:?} after cluster DNS was back");
    Ok(Row {
        event: "cluster DNS stopped",
        seen: format!(
            "nothing, nor at an ExternalName that was resolved before; one that wasn't is answered with 502 or 504, and is served within {} s of its return",
            RESOLVED_WITHIN.as_secs()
        ),
        measured: format!(
            "{}, and {} of {} to the ExternalName; stopped for {:.0} s; a new one was answered with {}, and served on every node {:.1} s after that",
            seen.account(&[1, 2, 3]),
            kept.failed.len(),
            kept.sent,
            fault.seconds(),
            new.status,
            resolved.as_secs_f32()
        ),
    })
}

/// The sample backend among the clients, at each of their addresses.
fn outside(site: &Site<'_>) -> Daemon {
    let mut line = site.cluster.internet.prefix();
    line.push(images::archive(images::ECHO).with_extension("").to_string_lossy().into_owned());
    line.extend(["--listen".to_owned(), format!("0.0.0.0:{PORT}"), "--name".to_owned(), "outside".to_owned()]);
    Daemon::new("outside", line, Path::new(LOGS))
}

fn external(name: &str, target: &str) -> Value {
    let spec = json!({ "type": "ExternalName", "externalName": target });
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": WEB.namespace }, "spec": spec })
}

fn scale(site: &Site<'_>, replicas: usize) -> anyhow::Result<()> {
    let replicas = format!("--replicas={replicas}");
    site.cluster.kubectl(&["scale", "deployment", "coredns", "--namespace=kube-system", &replicas]).map(drop)
}
