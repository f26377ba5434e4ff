//! The end of the data plane: requests and tunnels finish, nobody new comes in, and all of it within a deadline.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;
use tokio_tungstenite::tungstenite::{
    Error, Message, WebSocket,
    protocol::{Role, frame::coding::CloseCode},
};

use crate::support::{Backend, GET, Nodegate, PATIENCE, Proxy, Wire, manifest};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const WEBSOCKET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// A drain in which WebSockets are told in the second half of its first four seconds, as the last two are for their answers.
const FAREWELL: Duration = Duration::from_secs(6);
const ALL_TOLD: Duration = Duration::from_millis(4600);
/// `Close` with the status 1001.
const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_request_under_way_is_finished_and_its_connection_closed() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (mut client, mut upstream) = proxy.begin(&backend);
    proxy.drain(PATIENCE);
    assert!(!proxy.drained(Duration::from_millis(200)), "ended before the request");
    upstream.send(OK);
    let response = client.message();
    assert_eq!((response.text(), response.head.field("connection")), ("ok", Some("close")));
    client.expect_end();
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn a_body_under_way_is_finished() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (mut client, mut upstream) = proxy.begin(&backend);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
    client.until(b"half");
    proxy.drain(PATIENCE);
    assert!(!proxy.drained(Duration::from_millis(200)), "ended before the body");
    upstream.send("half");
    client.until(b"half");
    client.expect_end();
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn a_head_under_way_is_finished() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHo");
    // The worker has read it once it answers a later question on another connection.
    proxy.exchange("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").assert_own(405, "method");
    proxy.drain(PATIENCE);
    assert!(!proxy.drained(Duration::from_millis(200)), "ended in mid-head");
    client.send("st: a\r\n\r\n");
    backend.answer(OK);
    assert_eq!(client.message().text(), "ok");
    client.expect_end();
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn an_empty_line_between_requests_holds_no_drain() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = proxy.connect();
    assert_eq!(client.exchange(GET).text(), "hello");
    for half in ["\r", "\n"] {
        client.send(half);
        // As above.
        proxy.exchange("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").assert_own(405, "method");
    }
    proxy.drain(PATIENCE);
    // Long before the rest of a head would be late.
    assert!(proxy.drained(PATIENCE / 4));
    client.expect_end();
}

#[test]
fn idle_connections_are_closed_and_new_ones_refused() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = proxy.connect();
    assert_eq!(client.exchange(GET).text(), "hello");
    proxy.drain(PATIENCE);
    client.expect_end();
    assert!(proxy.drained(PATIENCE));
    assert!(TcpStream::connect(proxy.address).is_err(), "still accepting");
}

#[test]
fn connections_in_the_queue_are_served() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    // However these meet the drain, none is cut off: each is answered, or was refused from the start.
    let mut clients: Vec<Wire> = (0..50).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    proxy.drain(PATIENCE);
    backend.serve("hello");
    for client in &mut clients {
        assert_eq!(client.message().text(), "hello");
    }
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn a_new_connection_has_time_for_its_first_request() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let (mut client, mut silent) = (proxy.connect(), proxy.connect());
    proxy.wait_for(|numbers| numbers.connections_open == 2);
    proxy.drain(PATIENCE);
    // Once the numbers are there, the command before them has been carried out.
    proxy.numbers();
    let response = client.exchange(GET);
    assert_eq!((response.text(), response.head.field("connection")), ("hello", Some("close")));
    // But not for ever.
    silent.expect_end();
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn a_tunnel_goes_on_until_it_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (mut client, mut upstream) = tunnel(&proxy, &backend);
    proxy.drain(PATIENCE);
    assert!(!proxy.drained(Duration::from_millis(200)), "ended before the tunnel");
    client.send("hello");
    upstream.until(b"hello");
    drop(client);
    drop(upstream);
    assert!(proxy.drained(PATIENCE));
}

/// A client's WebSocket through the proxy, and the backend's end of it.
#[track_caller]
fn tunnel(proxy: &Proxy, backend: &Backend) -> (Wire, Wire) {
    let mut client = proxy.connect();
    client.send(WEBSOCKET);
    let (upstream, _) = backend.answer(SWITCHED);
    assert_eq!(client.head().status(), 101);
    (client, upstream)
}

#[test]
fn websockets_are_told_before_the_deadline_that_we_go_away_and_tell_their_backends() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (client, upstream) = tunnel(&proxy, &backend);
    let (mut client, mut upstream) = (
        WebSocket::from_raw_socket(client.into_stream(), Role::Client, None),
        WebSocket::from_raw_socket(upstream.into_stream(), Role::Server, None),
    );
    let away = |message: Message| matches!(message, Message::Close(Some(frame)) if frame.code == CloseCode::Away);
    proxy.drain(FAREWELL);
    upstream.send(Message::text("last words")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("last words"));
    assert!(away(client.read().unwrap()));
    // Its answer is sent with the next read, which finds the end.
    assert!(matches!(client.read().unwrap_err(), Error::ConnectionClosed | Error::Protocol(_)));
    drop(client);
    assert!(away(upstream.read().unwrap()));
    drop(upstream);
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn that_we_go_away_is_said_between_two_frames_and_not_to_whom_the_backend_has_said_it() {
    const HALF: &[u8] = &[0x82, 5, b'h', b'a'];
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let [mut between, mut within, mut closing] = [(); 3].map(|()| tunnel(&proxy, &backend));
    for (said, (client, upstream)) in [(HALF, &mut within), (&[0x88, 0], &mut closing)] {
        upstream.send(said);
        assert_eq!(client.up_to(said.len()), said);
    }
    let begun = Instant::now();
    proxy.drain(FAREWELL);
    assert_eq!(between.0.up_to(GOING_AWAY.len()), GOING_AWAY);
    between.0.expect_end();
    // It would be told by now.
    while begun.elapsed() < ALL_TOLD {
        thread::park_timeout(ALL_TOLD.saturating_sub(begun.elapsed()));
    }
    within.1.send("lf!");
    assert_eq!(within.0.up_to(3), b"lf!");
    assert_eq!(within.0.up_to(GOING_AWAY.len()), GOING_AWAY);
    drop(closing.1);
    assert!(closing.0.rest().is_empty(), "it has been told already");
    // What clients send still passes.
    between.0.send("bye");
    between.1.until(b"bye");
    drop((between, within, closing.0));
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn server_sent_events_end_between_two_events_before_the_deadline_and_nothing_else_does() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let stream = |method: &str, kind: &str, piece: &str| {
        let mut client = proxy.connect();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        let (upstream, _) = backend.answer(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
        client.until(format!("{piece}\r\n").as_bytes());
        (client, upstream)
    };
    let mut between = stream("GET", "text/event-stream", "data: 1\r\n\r\n");
    let mut within = stream("GET", "Text/Event-Stream; charset=utf-8", "data: 1\n\ndata: 2");
    let others = [stream("GET", "text/plain", "data: 1\n\n"), stream("POST", "text/event-stream", "data: 1\n\n")];
    let begun = Instant::now();
    proxy.drain(FAREWELL);
    assert!(!between.0.stirs(FAREWELL / 4), "ended in the first half");
    between.0.until(b"0\r\n\r\n");
    between.0.expect_end();
    assert!(begun.elapsed() < FAREWELL, "not before the deadline");
    assert_eq!(between.1.rest(), b"", "and its backend is told");
    // It would have ended by now.
    while begun.elapsed() < ALL_TOLD {
        thread::park_timeout(ALL_TOLD.saturating_sub(begun.elapsed()));
    }
    for half in ["1\r\n\n\r\n", "1\r\n\n\r\n"] {
        within.1.send(half);
        within.0.until(half.as_bytes());
    }
    within.0.until(b"0\r\n\r\n");
    for (mut client, mut upstream) in others {
        upstream.send("2\r\nok\r\n0\r\n\r\n");
        client.until(b"2\r\nok\r\n0\r\n\r\n");
    }
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn what_takes_longer_than_the_deadline_is_cut_off() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let (mut client, _upstream) = proxy.begin(&backend);
    let begun = Instant::now();
    proxy.drain(Duration::from_millis(300));
    assert!(proxy.drained(PATIENCE));
    assert!(begun.elapsed() >= Duration::from_millis(300), "too early");
    client.expect_end();
}

#[test]
fn sigterm_makes_unready_drains_and_exits_with_0() {
    let backend = Backend::start();
    for signal in [Signal::TERM, Signal::INT] {
        let mut nodegate = Nodegate::serve(&manifest(&[("", "/", backend.address())]), &[]);
        let mut client = nodegate.connect();
        client.send(GET);
        let mut upstream = backend.accept();
        upstream.message();
        let admin = nodegate.admin;
        let open = || serde_json::from_str::<serde_json::Value>(Wire::page(admin, "/drain").text()).unwrap();
        let waits = |draining: bool| json!({ "draining": draining, "connections": 1, "idle_connections": 0, "requests": 1, "tunnels": 0, "missing_workers": 0 });
        assert_eq!(open(), waits(false));
        nodegate.signal(signal);
        let begun = Instant::now();
        while nodegate.readiness() == 200 {
            assert!(begun.elapsed() < PATIENCE, "still ready");
        }
        assert_eq!(open(), waits(true));
        upstream.send(OK);
        assert_eq!(client.message().text(), "ok");
        assert_eq!(nodegate.exit().code(), Some(0));
    }
}

#[test]
fn the_drain_timeout_ends_a_drain_with_0() {
    let backend = Backend::start();
    let mut nodegate = Nodegate::serve(&manifest(&[("", "/", backend.address())]), &["--drain-timeout", "300ms"]);
    let mut client = nodegate.connect();
    client.send(GET);
    let _upstream = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    nodegate.signal(Signal::TERM);
    assert_eq!(nodegate.exit().code(), Some(0));
    assert!(!client.message().complete);
}

#[test]
fn what_the_drain_timeout_cuts_off_is_in_the_access_log() {
    let backend = Backend::start();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let arguments = ["--drain-timeout", "300ms", "--access-log", log.to_str().unwrap()];
    let mut nodegate = Nodegate::serve(&manifest(&[("", "/", backend.address())]), &arguments);
    let (mut unanswered, mut half, mut tunnel) = (nodegate.connect(), nodegate.connect(), nodegate.connect());
    unanswered.send(GET.replace("/ ", "/unanswered "));
    let mut waits = backend.accept();
    waits.message();
    half.send(GET.replace("/ ", "/half "));
    let _stops = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    half.until(b"half");
    tunnel.send(WEBSOCKET.replace("/ ", "/tunnel "));
    let _tunnelled = backend.answer(SWITCHED);
    assert_eq!(tunnel.head().status(), 101);
    nodegate.signal(Signal::TERM);
    assert_eq!(nodegate.exit().code(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    let mut records: Vec<(String, u64)> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|record| (record["path"].as_str().unwrap().to_owned(), record["status"].as_u64().unwrap()))
        .collect();
    records.sort();
    let expected = [("/half", 200), ("/tunnel", 101), ("/unanswered", 499)].map(|(path, status)| (path.to_owned(), status));
    assert_eq!(records, expected, "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let backend = Backend::start();
    let mut nodegate = Nodegate::serve(&manifest(&[("", "/", backend.address())]), &["--drain-timeout", "1h"]);
    let mut client = nodegate.connect();
    client.send(GET);
    let _upstream = backend.accept();
    nodegate.signal(Signal::TERM);
    while nodegate.readiness() == 200 {}
    // Another one: the same again, so soon, would count as the same wish.
    nodegate.signal(Signal::INT);
    assert_eq!(nodegate.exit().code(), Some(130));
}
