//! Backends that fail: in time, in form, or by going away; and what is tried again.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{Backend, GET, Proxy, Wire, manifest};

const SHORT: Duration = Duration::from_millis(500);
const HALF_A_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Ty";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A backend behind a proxy, to which the proxy has an idle connection that has carried a request.
fn warm() -> (Proxy, Backend, Wire) {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send(GET);
    let (upstream, _) = backend.answer(OK);
    assert_eq!(client.message().text(), "ok");
    proxy.wait_for(|numbers| numbers.upstream_idle == 1);
    (proxy, backend, upstream)
}

/// Answers the requests that these clients wait with, in this order.
#[track_caller]
fn answer_all(pairs: &mut [(Wire, Wire)]) {
    for (client, upstream) in pairs {
        upstream.send(OK);
        assert_eq!(client.message().text(), "ok");
    }
}

#[test]
fn a_backend_that_does_not_answer_in_time_is_504() {
    for (label, bytes) in [("silence", ""), ("half a status line", "HTTP/1.1 20"), ("half a head", "HTTP/1.1 200 OK\r\nContent-")] {
        let backend = Backend::start();
        let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
        let mut client = proxy.connect();
        client.send(GET);
        let (mut upstream, _) = backend.answer(bytes);
        client.message().assert_own(504, "upstream_timeout");
        upstream.expect_end();
        println!("{label}");
    }
}

#[test]
fn endless_interim_responses_are_504() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
    let mut client = proxy.connect();
    client.send(GET);
    let (mut upstream, _) = backend.answer("HTTP/1.1 100 Continue\r\n\r\n");
    let begun = Instant::now();
    while !client.stirs(Duration::from_millis(20)) {
        let _ = upstream.try_send("HTTP/1.1 102 Processing\r\n\r\n");
        assert!(begun.elapsed() < 20 * SHORT, "still waiting");
    }
    client.message().assert_own(504, "upstream_timeout");
}

#[test]
fn interim_responses_before_the_final_one_do_no_harm() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send(GET);
    backend.answer(format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"));
    let mut response = client.message();
    while response.status() < 200 {
        response = client.message();
    }
    assert_eq!(response.text(), "ok");
}

#[test]
fn a_long_upload_is_no_slow_backend() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n");
    let mut upstream = backend.accept();
    let head = upstream.head();
    for _ in 0..16 {
        assert!(!client.stirs(SHORT / 4), "given up in mid-upload");
        client.send("x");
    }
    assert_eq!(upstream.body(head).body.len(), 16);
    upstream.send(OK);
    assert_eq!(client.message().text(), "ok");
}

#[test]
fn a_client_that_pauses_in_mid_upload_is_no_slow_backend() {
    for (framing, halves, end) in
        [("Content-Length: 8", ["half", "half"], ""), ("Transfer-Encoding: chunked", ["4\r\nhalf\r\n", "4\r\nhalf\r\n"], "0\r\n\r\n")]
    {
        let backend = Backend::start();
        let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{}", halves[0]));
        let mut upstream = backend.accept();
        let head = upstream.head();
        assert!(!client.stirs(4 * SHORT), "{framing}: the backend was blamed for the client's pause");
        client.send(format!("{}{end}", halves[1]));
        assert_eq!(upstream.body(head).text(), "halfhalf", "{framing}");
        upstream.send(OK);
        assert_eq!(client.message().status(), 200, "{framing}");
    }
}

#[test]
fn a_backend_that_neither_reads_nor_answers_is_504() {
    let backend = Backend::start();
    let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000\r\n\r\n");
    let _upstream = backend.accept();
    client.send_until_stuck(200_000_000);
    client.message().assert_own(504, "upstream_timeout");
    assert_eq!(proxy.record()["reason"], "upstream_timeout");
}

#[test]
fn a_client_that_pauses_in_mid_download_is_no_slow_backend() {
    const SIZE: usize = 50_000_000;
    let backend = Backend::start();
    let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.response_idle_timeout = SHORT);
    let mut client = proxy.connect();
    client.send(GET);
    let (mut upstream, _) = backend.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
    let taken = upstream.send_until_stuck(SIZE);
    assert!(!upstream.stirs(4 * SHORT), "the backend was blamed for the client's pause");
    thread::scope(|scope| {
        scope.spawn(|| upstream.send_zeros(SIZE - taken));
        assert_eq!(client.head().status(), 200);
        client.skip(SIZE as u64);
    });
    assert_eq!(proxy.record()["reason"], serde_json::Value::Null);
}

#[test]
fn an_answer_arrives_although_the_backend_closes_on_the_upload() {
    const SIZE: usize = 3 << 20;
    let backend = Backend::start();
    let mut proxy = Proxy::to(backend.address());
    for round in 0..50 {
        let mut client = proxy.connect();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut upstream = backend.accept();
                upstream.head();
                upstream.send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!");
                // Closed with most of the request unread: what is still on its way meets a reset.
            });
            let _ = client.try_send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
            let _ = client.try_send(vec![0; SIZE]);
        });
        let response = client.message();
        assert_eq!((response.status(), response.text(), response.complete), (413, "no!", true), "round {round}");
        let record = proxy.record();
        assert_eq!((&record["status"], &record["reason"]), (&413.into(), &serde_json::Value::Null), "round {round}");
    }
}

#[test]
fn a_response_that_stalls_ends_in_an_error() {
    let backend = Backend::start();
    let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.response_idle_timeout = SHORT);
    let mut client = proxy.connect();
    client.send(GET);
    let (mut upstream, _) = backend.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let response = client.message();
    assert!(!response.complete && response.text() == "half", "{response:?}");
    upstream.expect_end();
    assert_eq!(proxy.record()["reason"], "upstream_timeout");
}

#[test]
fn a_backend_that_closes_before_its_response_is_502() {
    for (label, bytes, reset) in [
        ("at once", "", false),
        ("at once, reset", "", true),
        ("in mid-headers", HALF_A_HEAD, false),
        ("in mid-headers, reset", HALF_A_HEAD, true),
    ] {
        let backend = Backend::start();
        let proxy = Proxy::to(backend.address());
        let mut client = proxy.connect();
        client.send(GET);
        let (upstream, _) = backend.answer(bytes);
        if reset {
            upstream.reset();
        } else {
            drop(upstream);
        }
        client.message().assert_own(502, "upstream_reset");
        // The connection was new, so it wasn't a matter of its age: nothing is tried again.
        assert!(backend.accept_within(Duration::from_millis(50)).is_none(), "{label}: tried again");
    }
}

#[test]
fn invalid_responses_are_502() {
    let many_fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(201));
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for (label, response) in [
        ("garbage", "\x00\x01\x02 this is not HTTP\r\n\r\n"),
        ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        ("no status", "HTTP/1.1\r\n\r\n"),
        ("a status that is none", "HTTP/1.1 2xx OK\r\n\r\n"),
        ("another version", "HTTP/3.0 200 OK\r\n\r\n"),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
        ("a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"),
        ("a bare CR", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok"),
        ("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok"),
        (
            "Content-Length and Transfer-Encoding",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
        ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("too many fields", &many_fields),
        ("too large a head", &large),
    ] {
        println!("{label}");
        let backend = Backend::start();
        let mut proxy = Proxy::to(backend.address());
        let mut client = proxy.connect();
        client.send(GET);
        let mut upstream = backend.accept();
        upstream.message();
        // The proxy may close before it has taken all of it.
        let _ = upstream.try_send(response);
        client.message().assert_own(502, "upstream_invalid");
        upstream.rest();
        assert_eq!(proxy.record()["reason"], "upstream_invalid", "{label}");
        // The client's connection is none the worse.
        client.send(GET);
        backend.answer(OK);
        assert_eq!(client.message().text(), "ok", "{label}");
    }
}

#[test]
fn connections_are_reused_the_oldest_idle_one_first() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut pairs: Vec<(Wire, Wire)> = (0..3).map(|_| proxy.begin(&backend)).collect();
    answer_all(&mut pairs);
    proxy.wait_for(|numbers| numbers.upstream_idle == 3);
    for (client, upstream) in &mut pairs {
        client.send(GET);
        upstream.message();
        upstream.send(OK);
        assert_eq!(client.message().text(), "ok");
    }
    assert_eq!(proxy.numbers().upstream_dials, 3);
}

#[test]
fn a_backend_that_says_close_is_not_used_again() {
    for response in
        ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"]
    {
        let backend = Backend::start();
        let proxy = Proxy::to(backend.address());
        for _ in 0..2 {
            let mut client = proxy.connect();
            client.send(GET);
            let (mut upstream, _) = backend.answer(response);
            assert_eq!(client.message().text(), "ok");
            upstream.expect_end();
        }
    }
}

#[test]
fn a_backend_that_speaks_http_1_0_gets_each_request_whole_and_on_a_new_connection() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        let (mut upstream, request) = backend.answer("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!((request.head.start.as_str(), request.text()), ("POST / HTTP/1.1", "abcde"));
        assert_eq!(client.message().text(), "ok");
        upstream.expect_end();
    }
}

#[test]
fn a_pooled_connection_that_died_unnoticed_is_replaced_for_a_get() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"] {
        let (mut proxy, backend, mut stale) = warm();
        let mut client = proxy.connect();
        client.send(format!("{method} /again HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"));
        stale.message();
        drop(stale);
        let (_fresh, request) = backend.answer("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!((request.head.target(), request.head.field("x")), ("/again", Some("y")), "{method}");
        assert_eq!(client.head().status(), 204, "{method}");
        proxy.record();
        assert_eq!(proxy.record()["attempts"], 2);
    }
}

#[test]
fn what_may_have_had_an_effect_is_never_replayed() {
    for (label, request) in [
        ("POST with a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"),
        ("POST without", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        ("PATCH", "PATCH / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an unknown method", "CHARGE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("PUT with a body", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"),
        ("PUT with a chunked body", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ] {
        let (proxy, backend, mut stale) = warm();
        let mut client = proxy.connect();
        client.send(request);
        stale.message();
        drop(stale);
        client.message().assert_own(502, "upstream_reset");
        assert!(backend.accept_within(Duration::from_millis(50)).is_none(), "{label} was replayed");
    }
}

#[test]
fn a_replay_happens_once() {
    let (proxy, backend, mut stale) = warm();
    let mut client = proxy.connect();
    client.send(GET);
    stale.message();
    drop(stale);
    drop(backend.answer(""));
    client.message().assert_own(502, "upstream_reset");
    assert!(backend.accept_within(Duration::from_millis(50)).is_none(), "replayed twice");
}

#[test]
fn idle_connections_are_closed_in_time() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.pool_idle_timeout = SHORT);
    let mut client = proxy.connect();
    client.send(GET);
    let (mut upstream, _) = backend.answer(OK);
    assert_eq!(client.message().text(), "ok");
    upstream.expect_end();
    assert_eq!(proxy.numbers().upstream_open, 0);
}

#[test]
fn old_connections_are_not_used_again() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.pool_max_age = Duration::from_millis(1));
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send(GET);
        let mut upstream = backend.accept();
        upstream.message();
        // The clock of ages ticks four times a second.
        assert!(!upstream.stirs(SHORT), "a connection in use was closed");
        upstream.send(OK);
        assert_eq!(client.message().text(), "ok");
        upstream.expect_end();
    }
}

#[test]
fn the_pool_keeps_no_more_than_its_size() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.pool_idle_per_backend = 2);
    let mut pairs: Vec<(Wire, Wire)> = (0..4).map(|_| proxy.begin(&backend)).collect();
    answer_all(&mut pairs);
    for (_, upstream) in &mut pairs[2..] {
        upstream.expect_end();
    }
    assert_eq!((proxy.numbers().upstream_open, proxy.numbers().upstream_idle), (2, 2));
}

#[test]
fn a_full_worker_closes_one_of_another_backend_for_each_connection_that_it_keeps() {
    let (first, second) = (Backend::start(), Backend::start());
    let table = manifest(&[("first", "/", first.address()), ("second", "/", second.address())]);
    let proxy = Proxy::with(&table, |settings| {
        settings.limits.pool_idle_per_backend = 2;
        settings.limits.pool_idle_per_worker = 3;
    });
    // So many requests at the same time, over the connections that are idle and as many new ones as it takes.
    let load = |host: &str, backend: &Backend, idle: Vec<Wire>, requests: usize| -> Vec<Wire> {
        let mut idle = idle.into_iter();
        let mut pairs: Vec<(Wire, Wire)> = (0..requests)
            .map(|_| {
                let mut client = proxy.connect();
                client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                let mut upstream = idle.next().unwrap_or_else(|| backend.accept());
                upstream.message();
                (client, upstream)
            })
            .collect();
        answer_all(&mut pairs);
        pairs.into_iter().map(|(_, upstream)| upstream).collect()
    };
    let mut of_second = load("second", &second, Vec::new(), 1);
    // Its backend has enough, so that the third isn't kept: it takes nobody's place.
    let mut of_first = load("first", &first, Vec::new(), 3);
    of_first.pop().unwrap().expect_end();
    assert!(!of_second[0].stirs(SHORT), "closed for nothing");
    // The worker has enough, its backend hasn't.
    of_second = load("second", &second, of_second, 2);
    of_first[0].expect_end();
    assert!(!of_first[1].stirs(SHORT) && of_second.iter_mut().all(|kept| !kept.stirs(SHORT)), "closed too many");
    assert_eq!((proxy.numbers().upstream_open, proxy.numbers().upstream_idle), (3, 3));
}

#[test]
fn many_clients_share_few_connections() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                (0..100).for_each(|_| assert_eq!(client.exchange(GET).text(), "hello"));
            });
        }
    });
    let numbers = proxy.numbers();
    assert!(numbers.upstream_dials <= 8, "{} connections for 8 clients", numbers.upstream_dials);
}
