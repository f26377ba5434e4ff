//! `/ws`: a WebSocket that sends every message back, and says goodbye when this backend ends.

use futures_util::{SinkExt, StreamExt};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE},
};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::answers::{Body, text};

/// Answers the handshake and leaves the echo running behind it.
pub(crate) fn upgrade(mut request: Request<Incoming>, stopping: watch::Receiver<()>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::UPGRADE_REQUIRED, "this path speaks WebSocket\n");
    };
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            echo(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await, stopping).await;
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn echo(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, mut stopping: watch::Receiver<()>) {
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = stopping.changed() => break,
        };
        let Some(Ok(message)) = message else { return };
        let answered = if message.is_text() || message.is_binary() { socket.send(message).await } else { socket.flush().await };
        if answered.is_err() {
            return;
        }
    }
    if socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "".into() })).await.is_ok() {
        // Until the other end has answered. What it had sent before is answered no more.
        while let Some(Ok(_)) = socket.next().await {}
    }
}
