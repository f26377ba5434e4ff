//! TLS on real nodes: port 443 as an ordinary user, certificates from Secrets, a new one without a restart, what is spoken through it, who is let
//! in, and a rollout that costs nobody anything.

mod grpc;
mod http2;
mod known;
mod rollout;
mod soak;

use anyhow::ensure;
use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    https, install,
    issued::{Authority, issue},
    sample::{Sample, ingress, list, namespace},
    wait::{PATIENCE, eventually},
};

const HOST: &str = "secure.example";
const NAMESPACE: &str = "rig-https";
const WEB: Sample<'_> = Sample { namespace: NAMESPACE, name: "web", port: 8000, answers_as: "$(NODE)" };

pub async fn https(cluster: &Cluster) -> anyhow::Result<()> {
    let (first, second) = (issue(&PKCS_ECDSA_P256_SHA256, &known::HOSTS), issue(&PKCS_ECDSA_P256_SHA256, &known::HOSTS));
    let clients = Authority::new("first");
    let web = [
        first.secret(NAMESPACE, "certificate"),
        WEB.deployment(cluster.nodes.len()),
        WEB.service(80),
        secured("web", HOST, "web", "certificate"),
    ];
    cluster.apply(&list(&[&[namespace(NAMESPACE)], &web[..], &known::objects(&clients)].concat()))?;
    grpc::set_up(cluster).await?;
    cluster.rolled_out(NAMESPACE, "web", PATIENCE).await?;

    let installed = install::nodegate(cluster, "overlays/https", &[]).await?;
    served_with(cluster, &first.der).await?;
    cluster.apply(&list(&[second.secret(NAMESPACE, "certificate")]))?;
    served_with(cluster, &second.der).await?;
    http2::served(cluster)?;
    known::alone_come_in(cluster, &clients).await?;
    grpc::cases_pass(cluster).await?;
    rollout::rollout(cluster, &installed, &second.der).await?;
    install::uninstall(cluster, installed)?;
    cluster.delete_namespace(NAMESPACE)
}

/// An Ingress that has this Secret's certificate for its host.
fn secured(name: &str, host: &str, service: &str, secret: &str) -> Value {
    let mut ingress = ingress(NAMESPACE, name, host, service);
    ingress["spec"]["tls"] = json!([{ "hosts": [host], "secretName": secret }]);
    ingress
}

/// Waits until every node answers with this certificate.
async fn served_with(cluster: &Cluster, certificate: &[u8]) -> anyhow::Result<()> {
    for door in cluster.doors(443) {
        eventually(&format!("{door} has the certificate"), PATIENCE, async || {
            let (seen, answer) = cluster.internet.within_async(async || https::get(door, HOST).await)?;
            ensure!(answer.status == 200 && answer.backend().is_some(), "answered with {answer}");
            ensure!(seen == certificate, "it has another one");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
