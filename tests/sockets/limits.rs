//! Every limit and timeout of the data plane's client side, crossed.

use std::{
    thread,
    time::{Duration, Instant},
};

use nodegate::config::limits::Limits;

use crate::support::{Backend, GET, Proxy, Wire};

const SHORT: Duration = Duration::from_millis(500);

fn proxy_with(change: impl FnOnce(&mut Limits)) -> Proxy {
    Proxy::to_with(Backend::start().serve("hello"), |settings| change(&mut settings.limits))
}

#[test]
fn a_head_of_too_many_bytes_is_431() {
    let mut proxy = proxy_with(|_| {});
    let request = |bytes: usize| {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
        head.replace("X: ", &format!("X: {}", "x".repeat(bytes - head.len())))
    };
    let most = Limits::default().request_head_bytes;
    assert_eq!(proxy.exchange(request(most)).text(), "hello");
    proxy.exchange(request(most + 1)).assert_own(431, "header_limit");
    // However far beyond, and although nobody reads the rest: the answer arrives, not a reset.
    let mut client = proxy.connect();
    client.send(request(10 * most));
    client.message().assert_own(431, "header_limit");
    client.expect_end();
    // Without an end.
    let mut client = proxy.connect();
    client.send(&request(2 * most)[..most + 100]);
    client.message().assert_own(431, "header_limit");
    proxy.record();
    assert_eq!(proxy.record()["reason"], "header_limit");
}

#[test]
fn too_many_fields_are_431() {
    let proxy = proxy_with(|_| {});
    let request = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields - 1));
    let most = Limits::default().request_header_count;
    assert_eq!(proxy.exchange(request(most)).text(), "hello");
    proxy.exchange(request(most + 1)).assert_own(431, "header_limit");
}

#[test]
fn the_number_of_fields_is_the_one_that_is_set() {
    for most in [20, 200] {
        let mut proxy = proxy_with(|limits| limits.request_header_count = most);
        let request = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields - 1));
        assert_eq!(proxy.exchange(request(most * 3 / 4)).text(), "hello");
        assert_eq!(proxy.exchange(request(most)).text(), "hello");
        proxy.exchange(request(most + 1)).assert_own(431, "header_limit");
        proxy.record();
        proxy.record();
        let record = proxy.record();
        assert_eq!((&record["status"], &record["reason"]), (&431.into(), &"header_limit".into()));
    }
}

#[test]
fn a_head_that_takes_too_long_is_408() {
    let proxy = proxy_with(|limits| limits.header_read_timeout = SHORT);
    for beginning in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n\r\nGET / HTTP/1.1\r\nX"] {
        let mut client = proxy.connect();
        client.send(beginning);
        client.message().assert_own(408, "client_timeout");
        client.expect_end();
    }
    // On a connection that has had an answer already, too.
    let mut client = proxy.connect();
    assert_eq!(client.exchange(GET).text(), "hello");
    client.send("GET");
    client.message().assert_own(408, "client_timeout");
}

#[test]
fn a_head_that_trickles_in_gains_no_time() {
    let proxy = proxy_with(|limits| limits.header_read_timeout = SHORT);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\n");
    let begun = Instant::now();
    while !client.stirs(Duration::from_millis(50)) {
        let _ = client.try_send("X: y\r\n");
        assert!(begun.elapsed() < 10 * SHORT, "still open");
    }
    client.message().assert_own(408, "client_timeout");
}

#[test]
fn a_connection_without_a_request_is_closed_silently() {
    let proxy = proxy_with(|limits| limits.keep_alive_timeout = SHORT);
    proxy.connect().expect_end();
    let mut client = proxy.connect();
    assert_eq!(client.exchange(GET).text(), "hello");
    client.expect_end();
    // Empty lines are no request, and no beginning of one, however they come.
    let mut client = proxy.connect();
    assert_eq!(client.exchange(GET).text(), "hello");
    for half in ["\r", "\n"] {
        client.send(half);
        proxy.exchange("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // Long before the rest of a head would be late.
    assert!(client.stirs(Limits::default().header_read_timeout / 2));
    client.expect_end();
    assert!(proxy.numbers().keep_alive_timeouts >= 3);
}

#[test]
fn a_request_in_progress_is_not_idle() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.keep_alive_timeout = SHORT);
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.message();
    assert!(!client.stirs(3 * SHORT), "closed while its backend was busy");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
    assert_eq!(client.message().text(), "slow");
}

#[test]
fn a_body_that_stalls_is_408() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    ] {
        let backend = Backend::start();
        let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.body_idle_timeout = SHORT);
        let mut client = proxy.connect();
        client.send(request);
        let mut upstream = backend.accept();
        upstream.head();
        client.message().assert_own(408, "client_timeout");
        client.expect_end();
        assert!(!String::from_utf8(upstream.rest()).unwrap().contains("0\r\n\r\n"), "the backend saw a clean end");
        assert_eq!(proxy.record()["reason"], "client_timeout");
    }
}

#[test]
fn a_body_that_trickles_is_408_once_the_grace_is_over() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| {
        (settings.limits.body_rate_grace, settings.limits.body_min_rate) = (Duration::from_secs(1), 1000);
    });
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let mut upstream = backend.accept();
    upstream.head();
    let begun = Instant::now();
    while !client.stirs(Duration::from_millis(50)) {
        let _ = client.try_send("x");
        assert!(begun.elapsed() < Duration::from_secs(10), "still open");
    }
    assert!(begun.elapsed() > Duration::from_millis(900), "no grace");
    client.message().assert_own(408, "client_timeout");
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.write_stall_timeout = SHORT);
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.message();
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000\r\n");
    // Far more than all buffers hold; it ends in an error when the proxy gives the connection up.
    upstream.send_until_stuck(256 << 20);
    upstream.rest();
    assert!(!client.rest().is_empty());
    assert_eq!(proxy.numbers().write_stalls, 1);
}

#[test]
fn the_last_request_of_a_connection_says_so() {
    let proxy = proxy_with(|limits| limits.requests_per_connection = 3);
    let mut client = proxy.connect();
    for connection in [None, None, Some("close")] {
        assert_eq!(client.exchange(GET).head.field("connection"), connection);
    }
    client.expect_end();
}

#[test]
fn connections_beyond_the_limit_wait_in_the_queue() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.max_connections = 2);
    // Two that are busy: nothing idle could be closed for the third.
    let mut busy: Vec<(Wire, Wire)> = (0..2).map(|_| begin(&proxy, &backend)).collect();
    let mut third = proxy.connect();
    third.send(GET);
    assert!(backend.accept_within(Duration::from_millis(200)).is_none(), "the third was accepted");
    let (mut client, mut upstream) = busy.remove(0);
    upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    assert_eq!(client.head().status(), 204);
    drop(client);
    backend.answer("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(third.head().status(), 204);
}

/// A request that its backend has and hasn't answered.
fn begin(proxy: &Proxy, backend: &Backend) -> (Wire, Wire) {
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.message();
    (client, upstream)
}

#[test]
fn idle_connections_make_room_at_the_limit() {
    let proxy = proxy_with(|limits| limits.max_connections = 2);
    let mut idle: Vec<Wire> = (0..2).map(|_| proxy.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.exchange(GET).text(), "hello");
    }
    assert_eq!(proxy.exchange(GET).text(), "hello");
    // The one that was idle longest has gone.
    idle[0].expect_end();
    assert_eq!(idle[1].exchange(GET).text(), "hello");
    assert_eq!(proxy.numbers().connections_evicted, 1);
}

#[test]
fn a_flood_of_connections_is_served_one_after_another() {
    let proxy = proxy_with(|limits| limits.max_connections = 8);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(proxy.exchange(GET).text(), "hello")));
        }
    });
}
