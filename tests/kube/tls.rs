//! Certificates from Secrets of a real API server: followed as they come and go.

use std::time::Duration;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};

use crate::{
    issued::issue,
    rig::{App, Cluster, Nodegate, WATCHED, eventually, get, objects},
};

/// A Secret of this type, with a new certificate and something that isn't read.
fn secret(name: &str, kind: &str) -> Secret {
    let mut secret = issue(&rcgen::PKCS_ECDSA_P256_SHA256, &["secure.example"]).secret("secure", name);
    secret["type"] = kind.into();
    secret["data"]["ca.crt"] = json!(ByteString(b"not read".to_vec()));
    objects::object(secret)
}

/// Waits until `/explain` says this of `secure.example`, or doesn't any more.
async fn explained(nodegate: &Nodegate, text: &str, expected: bool) {
    eventually("the certificate is as expected", async || {
        let page = get(nodegate.admin, "localhost", "/explain?url=https://secure.example/").await?;
        if page.body.contains(text) == expected { Ok(()) } else { Err(page.body) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_followed_from_its_secret() {
    let cluster = Cluster::start().await;
    cluster.grant(&[&WATCHED[..], &[("", "secrets")]].concat()).await;
    let client = cluster.client().await;
    objects::create_namespace(&client, "secure").await;
    let _app = App::deploy(&client, "secure", "app").await;
    let mut web: Value = serde_json::to_value(objects::ingress("web", "secure.example", "app")).unwrap();
    web["spec"]["tls"] = json!([{ "hosts": ["secure.example"], "secretName": "cert" }]);
    objects::create::<k8s_openapi::api::networking::v1::Ingress>(&client, "secure", &objects::object(web)).await;

    let kubeconfig = cluster.nodegate_kubeconfig(cluster.api_address());
    let mut nodegate = Nodegate::start_with(&kubeconfig, &["--https", "127.0.0.1:0"]).await;
    nodegate.ready().await;
    let served = "tls        ECDSA secure/cert, of Ingress secure/web";
    explained(&nodegate, served, false).await;

    objects::create(&client, "secure", &secret("cert", "kubernetes.io/tls")).await;
    explained(&nodegate, served, true).await;
    let problems = async || nodegate.metric(r#"nodegate_diagnostics{severity="error"}"#).await;
    assert_eq!(problems().await, Ok(0));

    // The last good one stays, and somebody is told.
    objects::delete::<Secret>(&client, "secure", "cert").await;
    eventually("what is wrong is counted", async || {
        problems().await.and_then(|count| if count == 1 { Ok(()) } else { Err(format!("{count}")) })
    })
    .await;
    explained(&nodegate, served, true).await;

    // What isn't of the type isn't even fetched.
    objects::create(&client, "secure", &secret("cert", "Opaque")).await;
    objects::create(&client, "secure", &secret("other", "kubernetes.io/tls")).await;
    tokio::time::timeout(Duration::from_secs(30), explained(&nodegate, served, true)).await.unwrap();
    assert_eq!(problems().await, Ok(1));
}
