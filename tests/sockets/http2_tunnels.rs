//! WebSockets in HTTP/2: a tunnel in one stream (RFC 8441).

use std::{net::SocketAddr, thread, time::Duration};

use bytes::Bytes;
use h2::{Reason, ext::Protocol};
use http::{HeaderValue, Request};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::support::{Backend, Call, Http2, PATIENCE, Proxy, Wire};

fn proxy(backend: SocketAddr) -> (Proxy, SocketAddr) {
    let proxy = Proxy::to_with(backend, |settings| settings.h2c = vec![SocketAddr::from(([127, 0, 0, 1], 0))]);
    let address = proxy.addresses[1];
    (proxy, address)
}

/// A client's request for a WebSocket, once its connection knows that it may ask.
fn ask_for_websocket(client: &mut Http2, fields: &[(&'static str, &'static str)]) -> Call {
    client.exchange(Request::builder().method("TRACE").uri("http://a/").body(()).unwrap());
    let mut request = Request::builder().method("CONNECT").uri("http://a/chat").body(()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    for (name, value) in fields {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    client.begin(request, false)
}

/// The backend's consent, and both ends.
fn open(client: &mut Http2, backend: &Backend) -> (Call, Wire) {
    let call = ask_for_websocket(client, &[("sec-websocket-version", "13")]);
    let mut upstream = backend.accept();
    let accept = derive_accept_key(upstream.head().field("Sec-WebSocket-Key").unwrap().as_bytes());
    let consent = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept:";
    upstream.send(format!("{consent} {accept}\r\n\r\n"));
    (call, upstream)
}

#[test]
fn a_busy_websocket_whose_client_updates_its_windows_is_no_flood() {
    const SIZE: usize = 64 << 20;
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address());
    let mut client = Http2::connect(address);
    let (call, mut upstream) = open(&mut client, &backend);
    let mut answer = client.head(call.response).unwrap();
    thread::spawn(move || upstream.send_zeros(SIZE));
    let mut got = 0;
    while got < SIZE {
        let piece = client.wait(answer.body_mut().data()).expect("more is to come").expect("the connection goes on");
        got += piece.len();
        answer.body_mut().flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(proxy.numbers().http2_floods, 0);
}

#[test]
fn a_websocket_is_a_tunnel_in_one_stream() {
    let backend = Backend::start();
    let (mut proxy, address) = proxy(backend.address());
    let mut client = Http2::connect(address);
    let ask = |protocol: &'static str| {
        let mut request =
            Request::builder().method("CONNECT").uri("http://a/chat?x=1").header("sec-websocket-version", "13").body(()).unwrap();
        request.extensions_mut().insert(Protocol::from_static(protocol));
        request
    };
    // The server has to say first that it can.
    client.exchange(Request::builder().method("TRACE").uri("http://a/").body(()).unwrap());
    let mut call = client.begin(ask("websocket"), false);
    let mut upstream = backend.accept();
    let head = upstream.head();
    assert_eq!(head.start, "GET /chat?x=1 HTTP/1.1");
    assert_eq!(
        (head.all("Upgrade"), head.all("Connection"), head.all("Sec-WebSocket-Version")),
        (vec!["websocket"], vec!["upgrade"], vec!["13"])
    );
    assert_eq!(head.field("Sec-WebSocket-Key").map(str::len), Some(24));
    let accept = derive_accept_key(head.field("Sec-WebSocket-Key").unwrap().as_bytes());
    upstream.send(format!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello"));
    let mut answer = client.head(call.response).unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["sec-websocket-protocol"].to_str().unwrap()), (200, "chat"));
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "hello");
    call.sending.send_data(Bytes::from("ping"), false).unwrap();
    upstream.until(b"ping");
    upstream.send("pong");
    assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "pong");
    assert_eq!(proxy.numbers().tunnels_open, 1);
    call.sending.send_data(Bytes::from("bye"), true).unwrap();
    assert_eq!(upstream.rest(), b"bye");
    drop(upstream);
    assert_eq!(client.wait(answer.body_mut().data()).map(Result::unwrap).unwrap_or_default(), "");
    assert!(client.wait(answer.body_mut().data()).is_none());
    proxy.record();
    let record = proxy.record();
    assert_eq!((&record["status"], &record["bytes_in"], &record["bytes_out"]), (&101.into(), &7.into(), &9.into()), "{record}");

    // A backend that hasn't understood (RFC 6455 section 4.1).
    let call = client.begin(ask("websocket"), false);
    backend.accept().send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
    client.answer(call.response).unwrap().assert_own(502, "upstream_invalid");

    let refused = client.begin(ask("connect-udp"), false);
    client.answer(refused.response).unwrap().assert_own(405, "method");
}

#[test]
fn what_a_client_announces_behind_a_websocket_is_no_body_to_the_backend() {
    let backend = Backend::start();
    let (_proxy, address) = proxy(backend.address());
    let mut client = Http2::connect(address);
    let mut call = ask_for_websocket(&mut client, &[("content-length", "39"), ("expect", "100-continue"), ("trailer", "x")]);
    let mut upstream = backend.accept();
    let head = upstream.head();
    for name in ["Content-Length", "Transfer-Encoding", "Expect", "Trailer"] {
        assert!(head.all(name).is_empty(), "{name}");
    }
    call.sending.send_data(Bytes::from("GET /admin HTTP/1.1\r\nHost: internal\r\n\r\n"), false).unwrap();
    upstream.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer(call.response).unwrap().status(), 404);
    // Nobody else's request comes on that connection.
    upstream.expect_end();
    // To the client, any success would be a tunnel.
    let call = ask_for_websocket(&mut client, &[]);
    backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage");
    client.answer(call.response).unwrap().assert_own(502, "upstream_invalid");
}

#[test]
fn a_tunnel_whose_client_is_gone_ends_although_its_backend_says_nothing() {
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address());
    let mut client = Http2::connect(address);
    let mut call = ask_for_websocket(&mut client, &[]);
    let mut upstream = backend.accept();
    let accept = derive_accept_key(upstream.head().field("Sec-WebSocket-Key").unwrap().as_bytes());
    upstream.send(format!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"));
    let _answer = client.head(call.response).unwrap();
    call.sending.send_data(Bytes::from("bye"), true).unwrap();
    upstream.until(b"bye");
    proxy.wait_for(|numbers| numbers.tunnels_open == 1);
    call.sending.send_reset(Reason::CANCEL);
    proxy.wait_for(|numbers| (numbers.tunnels_open, numbers.active_requests) == (0, 0));
}

#[test]
fn a_websocket_in_a_stream_is_told_that_we_go_away() {
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address());
    let mut client = Http2::connect(address);
    let (call, mut upstream) = open(&mut client, &backend);
    let (mut sending, mut answer) = (call.sending, client.head(call.response).unwrap());
    proxy.drain(Duration::from_secs(4));
    assert_eq!(&client.wait(answer.body_mut().data()).unwrap().unwrap()[..], [0x88, 2, 0x03, 0xe9]);
    // The stream ends with an empty piece.
    while let Some(rest) = client.wait(answer.body_mut().data()) {
        assert!(rest.unwrap().is_empty(), "and that is the end");
    }
    sending.send_data("bye".into(), true).unwrap();
    client.wait(async { tokio::task::yield_now().await });
    upstream.until(b"bye");
    drop(upstream);
    assert!(proxy.drained(PATIENCE));
}
