//! `nodegate.dev/client-ca-secret`: only clients with a certificate of the authority come in, and another authority counts at once.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use rustls::AlertDescription;
use serde_json::{Value, json};

use super::{HOST, NAMESPACE, secured};
use crate::{
    cluster::Cluster,
    http,
    http2::Client,
    https,
    issued::{Authority, Issued},
    sample::list,
    wait::{PATIENCE, eventually},
};

const CLOSED: &str = "closed.example";
/// All that the certificate is for.
pub const HOSTS: [&str; 2] = [HOST, CLOSED];
const SECRET: &str = "authority";

/// An Ingress for those whom `authority` vouches for. Its certificate is that of [`HOST`], so that a connection for that one might be used for it.
pub fn objects(authority: &Authority) -> [Value; 2] {
    let mut ingress = secured("closed", CLOSED, "web", "certificate");
    ingress["metadata"]["annotations"] = json!({ "nodegate.dev/client-ca-secret": SECRET });
    [authority.secret(NAMESPACE, SECRET), ingress]
}

/// Asks every node's door, and again once another authority is in the place of this one.
pub async fn alone_come_in(cluster: &Cluster, authority: &Authority) -> anyhow::Result<()> {
    let next = Authority::new("next");
    let (old, new) = (authority.client("edge"), next.client("edge"));
    for door in cluster.doors(443) {
        cluster.internet.within_async(async || comes_in(door, &old, &new).await).context("before another authority is there")?;
    }
    no_way_around(cluster)?;
    cluster.apply(&list(&[next.secret(NAMESPACE, SECRET)]))?;
    for door in cluster.doors(443) {
        eventually(&format!("{door} has the other authority"), PATIENCE, async || {
            cluster.internet.within_async(async || comes_in(door, &new, &old).await)
        })
        .await?;
    }
    Ok(())
}

/// Whether one of these comes in, and neither the other one nor whoever shows no certificate.
async fn comes_in(door: SocketAddr, known: &Issued, unknown: &Issued) -> anyhow::Result<()> {
    let (_, answer) = https::get_as(Some(known), door, CLOSED).await?;
    ensure!(answer.status == 200 && answer.backend().is_some(), "{door} answered with {answer}");
    for (label, client, alert) in [
        ("another authority's", Some(unknown), AlertDescription::UnknownCA),
        ("no certificate", None, AlertDescription::CertificateRequired),
    ] {
        let refused = https::refusal(client, door, CLOSED).await.with_context(|| format!("with {label}"))?;
        ensure!(refused == alert, "{door} refused {label} with {refused:?}");
    }
    Ok(())
}

/// Neither without TLS, nor on a connection for another host.
fn no_way_around(cluster: &Cluster) -> anyhow::Result<()> {
    for node in &cluster.nodes {
        cluster.internet.within_async(async || {
            let plain = http::get((node.address, 80).into(), CLOSED, "/").await?;
            is_own(&plain, 403, "denied").with_context(|| format!("{} without TLS", node.name))?;
            let mut connection = Client::connect((node.address, 443).into(), HOST).await?;
            let other = connection.get(&format!("https://{CLOSED}/")).await?;
            is_own(&other, 421, "misdirected").with_context(|| format!("{} on a connection for {HOST}", node.name))
        })?;
    }
    Ok(())
}

fn is_own(answer: &http::Answer, status: u16, reason: &str) -> anyhow::Result<()> {
    let given = answer.headers.get("x-nodegate-reason").and_then(|reason| reason.to_str().ok());
    ensure!((answer.status, given) == (status, Some(reason)), "answered with {answer}, {given:?}");
    Ok(())
}
