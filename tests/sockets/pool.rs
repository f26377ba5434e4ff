//! Connections to backends: which are kept, which is reused first, and when they are given up.

use std::{net::SocketAddr, time::Duration};

use nodegate::config::limits::{REDRAW_REQUESTS, SPREAD_PER_ENDPOINT};

use crate::support::{Backend, Endpoint::Ready, GET, Message, Proxy, Service, Wire, eventually, manifest, service};

const SHORT: Duration = Duration::from_millis(500);
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// An endpoint that is never dialled: documentation's (RFC 5737).
fn pod(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 8080))
}

/// A Service behind a ClusterIP, with so many pods.
fn with_pods(backend: SocketAddr, pods: impl IntoIterator<Item = u8>) -> String {
    let endpoints: Vec<_> = pods.into_iter().map(|number| Ready(pod(number))).collect();
    service(Service::ClusterIp(backend), &endpoints)
}

/// One request and its answer over a connection that the backend has already.
#[track_caller]
fn again(client: &mut Wire, upstream: &mut Wire) {
    client.send(GET);
    upstream.message();
    upstream.send(NO_CONTENT);
    assert_eq!(client.message().status(), 204);
}

/// One request and its answer over a connection that the backend hasn't seen before.
#[track_caller]
fn anew(client: &mut Wire, backend: &Backend) -> Wire {
    client.send(GET);
    let (upstream, _) = backend.answer(NO_CONTENT);
    assert_eq!(client.message().status(), 204);
    upstream
}

/// The number of the connection that a request went over, at a backend that tells it.
#[track_caller]
fn number(response: &Message) -> usize {
    assert_eq!(response.status(), 200);
    response.text().parse().unwrap()
}

/// As the proxy's numbers are.
fn u64_of(count: usize) -> u64 {
    count.try_into().unwrap()
}

#[test]
fn a_connection_in_use_is_retired_when_its_request_ends() {
    let backend = Backend::start();
    let mut proxy = Proxy::start(&with_pods(backend.address(), [1, 2]));
    let (mut slow, mut old) = proxy.begin(&backend);
    proxy.publish(&with_pods(backend.address(), [1]));
    let mut client = proxy.connect();
    let mut new = anew(&mut client, &backend);
    assert!(!old.stirs(Duration::from_millis(50)), "closed in mid-request");
    old.send(NO_CONTENT);
    assert_eq!(slow.message().status(), 204);
    old.expect_end();
    again(&mut client, &mut new);
}

#[test]
fn a_pod_that_comes_retires_nothing() {
    let backend = Backend::start().serve_numbers();
    let mut proxy = Proxy::start(&with_pods(backend, [1]));
    let mut client = proxy.connect();
    assert_eq!(number(&client.exchange(GET)), 0);
    proxy.publish(&with_pods(backend, [1, 2]));
    assert_eq!(number(&client.exchange(GET)), 0);
    // Neither does an edit that leaves the pods as they are.
    proxy.publish(&with_pods(backend, [2, 1]).replace("ingress-0", "renamed"));
    eventually("the first connection is used again", || (number(&client.exchange(GET)) == 0).then_some(()));
}

#[test]
fn several_connections_are_opened_for_each_pod_and_used_in_turn() {
    let backend = Backend::start().serve_numbers();
    let proxy = Proxy::start(&with_pods(backend, [1, 2, 3]));
    let mut client = proxy.connect();
    let wanted = 3 * SPREAD_PER_ENDPOINT;
    eventually("some connections for each of three pods", || {
        number(&client.exchange(GET));
        (proxy.numbers().upstream_idle == u64_of(wanted)).then_some(())
    });
    let first: Vec<usize> = (0..wanted).map(|_| number(&client.exchange(GET))).collect();
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..wanted).collect::<Vec<_>>(), "the oldest idle one goes first");
    for expected in first.iter().cycle().take(3 * wanted) {
        assert_eq!(number(&client.exchange(GET)), *expected);
    }
    let numbers = proxy.numbers();
    assert_eq!((numbers.upstream_open, numbers.upstream_dials), (u64_of(wanted), u64_of(wanted)), "more than that");
}

#[test]
fn where_all_connections_lead_to_one_pod_the_one_that_was_used_last_goes_first() {
    for kind in [Service::ClusterIp as fn(SocketAddr) -> Service<'static>, Service::DialEndpoints] {
        let backend = Backend::start();
        let proxy = Proxy::start(&service(kind(backend.address()), &[Ready(backend.address())]));
        let (mut client, mut upstream) = proxy.begin(&backend);
        let (mut other_client, mut other) = proxy.begin(&backend);
        other.send(NO_CONTENT);
        assert_eq!(other_client.message().status(), 204);
        upstream.send(NO_CONTENT);
        assert_eq!(client.message().status(), 204);
        for _ in 0..3 {
            again(&mut other_client, &mut upstream);
        }
        assert!(!other.stirs(Duration::from_millis(1)), "the other one was used, too");
    }
}

#[test]
fn a_connection_that_was_never_used_goes_first() {
    let backend = Backend::start().serve_numbers();
    let proxy = Proxy::start(&with_pods(backend, [1, 2]));
    let mut client = proxy.connect();
    assert_eq!(number(&client.exchange(GET)), 0);
    proxy.wait_for(|numbers| numbers.upstream_idle == 1);
    for newest in 0..10 {
        assert_eq!(number(&client.exchange(GET)), newest);
        // Each request that a kept connection carries makes the proxy open one more.
        proxy.wait_for(|numbers| numbers.upstream_idle == u64_of(newest + 2));
    }
}

#[test]
fn connections_are_replaced_so_that_another_pod_may_be_chosen() {
    let backend = Backend::start().serve_numbers();
    let proxy = Proxy::start(&with_pods(backend, [1, 2]));
    let mut client = proxy.connect();
    let wanted = 2 * SPREAD_PER_ENDPOINT;
    let requests = 2 * wanted * usize::try_from(REDRAW_REQUESTS).unwrap();
    let newest = (0..requests).map(|_| number(&client.exchange(GET))).max();
    assert!(newest >= Some(wanted), "after {requests} requests, those of the beginning are still used: {newest:?}");
    let numbers = proxy.numbers();
    assert!(numbers.upstream_open <= u64_of(wanted + 1), "{} open", numbers.upstream_open);
}

#[test]
fn an_old_connection_is_not_used_again() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.pool_max_age = SHORT);
    // Idle when its time comes.
    let mut client = proxy.connect();
    anew(&mut client, &backend).expect_end();
    // In use when its time comes.
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.message();
    assert!(!upstream.stirs(2 * SHORT), "closed in mid-request");
    upstream.send(NO_CONTENT);
    assert_eq!(client.message().status(), 204);
    upstream.expect_end();
    // Busy all the time.
    let mut upstream = anew(&mut client, &backend);
    eventually("the proxy closes it between two requests", || {
        client.send(GET);
        if upstream.ended() {
            return Some(());
        }
        // Closed before this request, or open until after it.
        let mut new = backend.accept_within(Duration::from_millis(20));
        let serving = new.as_mut().unwrap_or(&mut upstream);
        serving.message();
        serving.send(NO_CONTENT);
        assert_eq!(client.message().status(), 204);
        None
    });
}

#[test]
fn bytes_behind_a_response_never_become_the_next_one() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (label, request, response) in [
        ("sized", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("chunked", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("empty", GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("204", GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        ("304", GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
        ("HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
        (
            "pipelined",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
    ] {
        println!("{label}");
        let backend = Backend::start();
        let proxy = Proxy::to(backend.address());
        let mut client = proxy.connect();
        client.send(request);
        let (mut upstream, _) = backend.answer(format!("{response}{EVIL}"));
        let head = client.head();
        if label != "HEAD" {
            assert!(client.body(head).complete);
        }
        if label != "pipelined" {
            client.send(GET);
        }
        backend.answer(NO_CONTENT);
        assert_eq!(client.message().status(), 204, "{label}");
        upstream.expect_end();
    }
}

#[test]
fn bytes_on_an_idle_connection_end_it() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    let mut upstream = anew(&mut client, &backend);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    // At once, before the proxy has had a moment to look.
    let mut upstream = {
        let new = anew(&mut client, &backend);
        upstream.expect_end();
        new
    };
    // A server's customary goodbye to an idle client.
    upstream.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    upstream.expect_end();
    anew(&mut client, &backend);
}

#[test]
fn an_answer_before_the_end_of_the_request_costs_the_connection() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbeginning");
    let mut upstream = backend.accept();
    upstream.head();
    upstream.until(b"beginning");
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!((client.message().status(), proxy.numbers().upstream_idle), (403, 0));
    upstream.rest();
    drop(client);
    anew(&mut proxy.connect(), &backend);
}

#[test]
fn backends_that_are_not_routed_any_more_lose_their_idle_connections_in_time() {
    let (backend, other) = (Backend::start(), Backend::start());
    let mut proxy = Proxy::with(&manifest(&[("", "/", backend.address())]), |settings| settings.limits.pool_idle_timeout = SHORT);
    let mut upstream = anew(&mut proxy.connect(), &backend);
    proxy.publish(&manifest(&[("", "/", other.address())]));
    anew(&mut proxy.connect(), &other);
    upstream.expect_end();
}
