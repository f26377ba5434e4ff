//! One request over TLS, whatever the certificate, and which certificate it was.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use http_body_util::Empty;
use hyper::{Request, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    accepts_any::AcceptsAny,
    http::{Answer, exchange},
};

/// For a whole request, its handshake included.
const PATIENCE: Duration = Duration::from_secs(20);

/// On a connection of its own.
pub async fn get(address: SocketAddr, host: &'static str) -> anyhow::Result<(Vec<u8>, Answer)> {
    timeout(PATIENCE, one(address, host)).await.with_context(|| format!("{address}: no whole answer within {PATIENCE:?}"))?
}

async fn one(address: SocketAddr, host: &'static str) -> anyhow::Result<(Vec<u8>, Answer)> {
    let provider = aws_lc_rs::default_provider();
    let verifier = AcceptsAny::new(&provider, |_| true);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let stream = TcpStream::connect(address).await.with_context(|| format!("{address}: no connection"))?;
    let secured = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host)?, stream).await;
    let secured = secured.with_context(|| format!("{address}: no handshake"))?;
    let certificate = secured.get_ref().1.peer_certificates().and_then(|chain| chain.first()).context("no certificate")?.to_vec();
    let (mut connection, driver) = handshake(TokioIo::new(secured)).await?;
    tokio::spawn(driver);
    let answer = exchange(&mut connection, Request::get("/").header("host", host).body(Empty::new())?).await?;
    Ok((certificate, answer))
}
