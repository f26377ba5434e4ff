//! TLS, whatever the server's certificate: connections, one request over one, and which certificate it was, or why there was none.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use http_body_util::Empty;
use hyper::{Request, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    accepts_any::AcceptsAny,
    http::{Answer, exchange},
    issued::Issued,
};

/// For a whole request, its handshake included.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One request over HTTP/1.1, on a connection of its own.
pub async fn get(address: SocketAddr, host: &'static str) -> anyhow::Result<(Vec<u8>, Answer)> {
    get_as(None, address, host).await
}

/// As [`get`], with this certificate, should the server ask for one.
pub async fn get_as(client: Option<&Issued>, address: SocketAddr, host: &'static str) -> anyhow::Result<(Vec<u8>, Answer)> {
    timeout(PATIENCE, one(client, address, host)).await.with_context(|| format!("{address}: no whole answer within {PATIENCE:?}"))?
}

/// The alert with which whoever shows this certificate, or none, is sent away. An error where it isn't.
pub async fn refusal(client: Option<&Issued>, address: SocketAddr, host: &'static str) -> anyhow::Result<AlertDescription> {
    let refused = timeout(PATIENCE, first_byte(client, address, host)).await;
    let error = match refused.with_context(|| format!("{address}: neither served nor refused within {PATIENCE:?}"))? {
        Ok(_byte) => bail!("{address}: served"),
        Err(error) => error,
    };
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    match io.and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Ok(*alert),
        _ => Err(error.context(format!("{address}: an end without an alert"))),
    }
}

/// A connection for `host`, on which these versions of HTTP are offered.
pub async fn connect(
    client: Option<&Issued>,
    address: SocketAddr,
    host: &'static str,
    protocols: &[&str],
) -> anyhow::Result<TlsStream<TcpStream>> {
    let provider = aws_lc_rs::default_provider();
    let verifier = AcceptsAny::new(&provider, |_| true);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match client {
        Some(issued) => builder.with_client_auth_cert(vec![issued.der.clone()], PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.with_context(|| format!("{address}: no connection"))?;
    let secured = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host)?, stream).await;
    secured.with_context(|| format!("{address}: no handshake"))
}

async fn one(client: Option<&Issued>, address: SocketAddr, host: &'static str) -> anyhow::Result<(Vec<u8>, Answer)> {
    let secured = connect(client, address, host, &[]).await?;
    let certificate = secured.get_ref().1.peer_certificates().and_then(|chain| chain.first()).context("no certificate")?.to_vec();
    let (mut connection, driver) = handshake(TokioIo::new(secured)).await?;
    tokio::spawn(driver);
    let answer = exchange(&mut connection, Request::get("/").header("host", host).body(Empty::new())?).await?;
    Ok((certificate, answer))
}

/// Of the answer to a request. In TLS 1.3 a client learns only behind its own handshake what the server thinks of its certificate.
async fn first_byte(client: Option<&Issued>, address: SocketAddr, host: &'static str) -> anyhow::Result<u8> {
    let mut secured = connect(client, address, host, &[]).await?;
    secured.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    Ok(secured.read_u8().await?)
}
