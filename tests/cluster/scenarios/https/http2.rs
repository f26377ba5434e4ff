//! HTTP/2 to clients, whose backends speak HTTP/1.1: many requests on one connection at once, and a WebSocket in one of its streams.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use h2::ext::Protocol;
use hyper::{Request, body::Bytes};
use serde_json::Value;

use super::HOST;
use crate::{
    cluster::Cluster,
    http2::{Client, Stream, answer, head, piece},
};

/// Requests that are open on one connection at the same time.
const AT_ONCE: usize = 16;

/// Asks every node's door.
pub fn served(cluster: &Cluster) -> anyhow::Result<()> {
    for door in cluster.doors(443) {
        cluster.internet.within_async(async || ask(door).await).with_context(|| format!("HTTP/2 at {door}"))?;
    }
    Ok(())
}

async fn ask(door: SocketAddr) -> anyhow::Result<()> {
    let mut client = Client::connect(door, HOST).await?;
    let answer = client.get(&format!("https://{HOST}/")).await?;
    ensure!(answer.status == 200 && answer.backend().is_some(), "answered with {answer}");
    at_once(&mut client).await.context("requests at once")?;
    websocket(&mut client).await.context("a WebSocket")
}

/// Requests that end in the reverse of the order in which they began: were any to wait for an earlier one, this would have no end.
async fn at_once(client: &mut Client) -> anyhow::Result<()> {
    let mut open = Vec::new();
    for number in 0..AT_ONCE {
        open.push((number, client.begin(Request::post(format!("https://{HOST}/{number}")).body(())?).await?));
    }
    while let Some((number, Stream { mut request, response })) = open.pop() {
        let body = format!("this is {number}");
        request.send_data(Bytes::from(body.clone()), true)?;
        let answer = answer(response).await.with_context(|| format!("number {number}"))?;
        let account: Value = serde_json::from_str(&answer.body).with_context(|| format!("number {number}: answered with {answer}"))?;
        let seen = (answer.status, &account["uri"], &account["body"], &account["version"]);
        ensure!(seen == (200, &format!("/{number}").into(), &body.into(), &"HTTP/1.1".into()), "number {number}: answered with {answer}");
    }
    Ok(())
}

/// Extended CONNECT, as RFC 8441 has it. The client has heard that it may: it has had an answer.
async fn websocket(client: &mut Client) -> anyhow::Result<()> {
    let mut request = Request::connect(format!("https://{HOST}/ws")).header("sec-websocket-version", "13").body(())?;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let Stream { mut request, response } = client.begin(request).await?;
    let (head, mut answers) = head(response).await?.into_parts();
    ensure!(head.status == 200, "answered with {head:?}");
    // A whole text; a client's has to be masked, and zeroes are a mask, too. The backend sends it back without one.
    request.send_data(Bytes::from_static(b"\x81\x85\0\0\0\0hello"), false)?;
    let mut seen = Vec::new();
    while seen.len() < b"\x81\x05hello".len() {
        seen.extend_from_slice(&piece(&mut answers).await?.with_context(|| format!("ended behind {seen:?}"))?);
    }
    ensure!(seen == b"\x81\x05hello", "sent back {seen:?}");
    Ok(())
}
