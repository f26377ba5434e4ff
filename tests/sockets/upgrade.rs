//! Tunnels: WebSocket passes, every other upgrade is refused, and bytes move in both directions until both sides have closed.

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use tokio_tungstenite::tungstenite::{Message, WebSocket, handshake::derive_accept_key, protocol::Role};

use crate::support::{Backend, Proxy, Wire};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// Both ends of a tunnel through the proxy.
#[track_caller]
fn tunnel(proxy: &Proxy, backend: &Backend) -> (Wire, Wire) {
    let mut client = proxy.connect();
    client.send(ASK);
    let mut upstream = backend.accept();
    let head = upstream.head();
    assert_eq!((head.field("connection"), head.field("upgrade")), (Some("upgrade"), Some("websocket")), "{head:?}");
    assert_eq!(head.field("sec-websocket-protocol"), Some("chat"));
    let accept = derive_accept_key(head.field("sec-websocket-key").unwrap().as_bytes());
    upstream.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    ));
    let head = client.head();
    assert_eq!((head.status(), head.field("upgrade"), head.field("sec-websocket-accept")), (101, Some("websocket"), Some(&*accept)));
    (client, upstream)
}

#[test]
fn ten_thousand_websocket_messages_are_echoed() {
    let backend = Backend::start();
    let mut proxy = Proxy::to(backend.address());
    let (client, upstream) = tunnel(&proxy, &backend);
    let echo = thread::spawn(move || {
        let mut socket = WebSocket::from_raw_socket(upstream.into_stream(), Role::Server, None);
        while let Ok(message) = socket.read() {
            if message.is_close() || socket.send(message).is_err() {
                break;
            }
        }
    });
    let mut socket = WebSocket::from_raw_socket(client.into_stream(), Role::Client, None);
    for number in 0..10_000 {
        let message = if number % 2 == 0 { Message::text(format!("message {number}")) } else { Message::binary(vec![7; number % 3000]) };
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message, "message {number}");
    }
    socket.close(None).unwrap();
    drop(socket);
    echo.join().unwrap();
    let record = proxy.record();
    assert_eq!((&record["status"], &record["reason"]), (&101.into(), &serde_json::Value::Null));
    assert!(record["bytes_in"].as_u64() > Some(10_000) && record["bytes_out"].as_u64() > Some(10_000), "{record}");
}

#[test]
fn a_tunnel_moves_bytes_that_come_together_with_the_heads() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send(format!("{ASK}eager client"));
    let mut upstream = backend.accept();
    upstream.head();
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\neager backend");
    assert_eq!(client.head().status(), 101);
    client.until(b"eager backend");
    upstream.until(b"eager client");
}

#[test]
fn a_tunnel_half_closes() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (mut client, mut upstream) = tunnel(&proxy, &backend);
    client.send("last words");
    client.finish();
    assert_eq!(upstream.rest(), b"last words");
    upstream.send("heard");
    drop(upstream);
    assert_eq!(client.rest(), b"heard");
}

#[test]
fn a_backend_that_closes_while_it_is_sent_something_has_the_last_word() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for _ in 0..50 {
        let (client, mut upstream) = tunnel(&proxy, &backend);
        let mut client = client.into_stream();
        let mut talker = client.try_clone().unwrap();
        // One octet after the other, for as long as somebody takes them.
        let talks = thread::spawn(move || while talker.write_all(b"x").is_ok() {});
        upstream.up_to(100);
        upstream.send("bye");
        // There is something that it hasn't read: its socket is reset.
        drop(upstream);
        let mut heard = Vec::new();
        // It ends in a reset, too.
        let _ = client.read_to_end(&mut heard);
        assert_eq!(heard, b"bye");
        drop(client);
        talks.join().unwrap();
    }
}

#[test]
fn a_tunnel_ends_when_either_side_breaks_off() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (mut client, upstream) = tunnel(&proxy, &backend);
    upstream.reset();
    client.expect_end();
    let (client, mut upstream) = tunnel(&proxy, &backend);
    client.reset();
    upstream.expect_end();
}

#[test]
fn an_idle_tunnel_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.tunnel_idle_timeout = Duration::from_millis(600));
    let (mut client, mut upstream) = tunnel(&proxy, &backend);
    // Either direction keeps it alive: these messages take longer than the timeout altogether.
    for _ in 0..5 {
        assert!(!client.stirs(Duration::from_millis(200)), "closed although it was in use");
        upstream.send("x");
        client.until(b"x");
    }
    client.expect_end();
    upstream.expect_end();
}

#[test]
fn a_tunnel_that_is_half_closed_ends_when_it_is_idle() {
    let backend = Backend::start();
    let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.tunnel_idle_timeout = Duration::from_millis(600));
    for client_closes in [true, false] {
        let (mut client, mut upstream) = tunnel(&proxy, &backend);
        let (closing, other) = if client_closes { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
        closing.send("bye");
        closing.finish();
        assert_eq!(other.rest(), b"bye");
        // The other direction is open still.
        other.send("and?");
        closing.until(b"and?");
        closing.expect_end();
        assert_eq!(proxy.record()["status"], 101);
    }
    assert_eq!(proxy.numbers().tunnel_timeouts, 2);
}

#[test]
fn a_tunnel_counts_as_a_connection_to_its_backend_until_it_ends() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (client, upstream) = tunnel(&proxy, &backend);
    proxy.wait_for(|numbers| numbers.tunnels_open == 1);
    assert_eq!((proxy.numbers().upstream_open, proxy.numbers().upstream_idle), (1, 0));
    drop((client, upstream));
    proxy.wait_for(|numbers| (numbers.tunnels_open, numbers.upstream_open) == (0, 0));
}

#[test]
fn a_switch_to_another_protocol_than_was_asked_for_is_502() {
    let backend = Backend::start();
    let mut proxy = Proxy::to(backend.address());
    for switched in
        ["Connection: Upgrade\r\nUpgrade: h2c\r\n", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", "Connection: Upgrade\r\n"]
    {
        let mut client = proxy.connect();
        client.send(ASK);
        let (mut upstream, _) = backend.answer(format!("HTTP/1.1 101 Switching Protocols\r\n{switched}\r\n"));
        client.message().assert_own(502, "upstream_invalid");
        let _ = client.try_send("smuggled");
        assert_eq!(upstream.rest(), b"", "{switched:?}");
        assert_eq!(proxy.record()["reason"], "upstream_invalid");
    }
}

#[test]
fn a_backend_may_decline_a_websocket() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send(ASK);
    let (mut upstream, _) = backend.answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let response = client.message();
    assert_eq!((response.status(), response.text()), (403, "no"));
    // Whether the backend has kept to HTTP is for it to know: no other request meets what it may take for frames.
    assert_eq!(upstream.rest(), b"");
    // The client's connection goes on as an ordinary one.
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    let (_upstream, next) = backend.answer("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(next.head.target(), "/next");
    assert_eq!(client.message().status(), 204);
}

#[test]
fn other_upgrades_are_not_passed_on() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for (label, fields) in [
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        ("TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"),
        ("anything", "Connection: Upgrade\r\nUpgrade: anything\r\n"),
        ("Upgrade without Connection", "Upgrade: websocket\r\n"),
        ("a body beside it", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n"),
    ] {
        let mut client = proxy.connect();
        let body = if fields.contains("Length") { "ab" } else { "" };
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}"));
        let (_wire, request) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(request.head.field(name), None, "{label}");
        }
        assert_eq!(client.message().text(), "ok", "{label}");
    }
}

#[test]
fn a_protocol_switch_that_nobody_asked_for_is_502() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for fields in ["", "Upgrade: websocket\r\n", "Connection: upgrade\r\nUpgrade: h2c\r\n"] {
        let mut client = proxy.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let (mut upstream, _) = backend.answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        client.message().assert_own(502, "upstream_invalid");
        client.send("smuggled");
        assert_eq!(upstream.rest(), b"");
    }
}

#[test]
fn a_tunnel_outlives_what_ends_requests() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| {
        let short = Duration::from_millis(300);
        let limits = &mut settings.limits;
        (limits.keep_alive_timeout, limits.header_read_timeout, limits.body_idle_timeout) = (short, short, short);
        (limits.first_byte_timeout, limits.response_idle_timeout, limits.write_stall_timeout) = (short, short, short);
    });
    let (mut client, mut upstream) = tunnel(&proxy, &backend);
    assert!(!client.stirs(Duration::from_millis(1200)), "the tunnel was closed");
    client.send("still there");
    upstream.until(b"still there");
}
