//! What is sent a second time, and what never is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nodegate::config::limits::{RETRY_BUDGET_MAX, RETRY_BUDGET_REQUESTS};

use crate::support::{Backend, Endpoint::Ready, GET, PATIENCE, Proxy, Service, Wire, service};

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A client, and the backend's end of a connection that has carried one of its requests.
fn warm(proxy: &Proxy, backend: &Backend) -> (Wire, Wire) {
    let mut client = proxy.connect();
    client.send(GET);
    let (upstream, _) = backend.answer(NO_CONTENT);
    assert_eq!(client.message().status(), 204);
    (client, upstream)
}

#[test]
fn a_restarted_backend_costs_one_retry_whatever_the_pool_holds() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut clients: Vec<Wire> = (0..5).map(|_| proxy.connect()).collect();
    let mut stale: Vec<Wire> = Vec::new();
    for client in &mut clients {
        client.send(GET);
        stale.push(backend.accept());
    }
    for (client, upstream) in clients.iter_mut().zip(&mut stale) {
        upstream.message();
        upstream.send(NO_CONTENT);
        assert_eq!(client.message().status(), 204);
    }
    proxy.wait_for(|numbers| numbers.upstream_idle == 5);
    clients[0].send(GET);
    let mut oldest = stale.remove(0);
    oldest.message();
    oldest.reset();
    // Not on another one of those.
    let (mut fresh, _) = backend.answer(NO_CONTENT);
    assert_eq!(clients[0].message().status(), 204);
    proxy.wait_for(|numbers| numbers.upstream_idle >= 1);
    for client in &mut clients[1..] {
        client.send(GET);
        fresh.message();
        fresh.send(NO_CONTENT);
        assert_eq!(client.message().status(), 204);
    }
    for upstream in &mut stale {
        upstream.expect_end();
    }
    assert_eq!((proxy.numbers().retries, proxy.numbers().upstream_dials), (1, 6));
}

#[test]
fn a_backend_that_had_begun_to_answer_is_not_asked_again() {
    for beginning in ["H", "HTTP/1.1 200 OK\r\nContent-Len", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let backend = Backend::start();
        let proxy = Proxy::to(backend.address());
        let (mut client, mut upstream) = warm(&proxy, &backend);
        client.send(GET);
        upstream.message();
        upstream.send(beginning);
        drop(upstream);
        client.message().assert_own(502, "upstream_reset");
        assert_eq!(proxy.numbers().upstream_dials, 1, "after {beginning:?}");
    }
}

#[test]
fn what_one_of_several_pods_has_had_and_not_answered_goes_to_another_one_if_nothing_can_come_of_it() {
    let get = "GET /lost HTTP/1.1\r\nHost: a\r\n\r\n";
    for (label, request, pods, sent) in [
        ("a GET on new connections", get, 2, 3),
        ("one of a Service with a single pod", get, 1, 1),
        ("a POST", "POST /lost HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 2, 1),
        (
            "a handshake, which may begin what goes on",
            "GET /lost HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            2,
            1,
        ),
        ("what has a body", "PUT /lost HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", 2, 1),
    ] {
        // Behind the Service's address a pod dies with each request, but for the third.
        let backend = Backend::start();
        let endpoints: Vec<_> = (1..=pods).map(|number| Ready(format!("192.0.2.{number}:80").parse().unwrap())).collect();
        let mut proxy = Proxy::start(&service(Service::ClusterIp(backend.address()), &endpoints));
        let mut client = proxy.connect();
        client.send(request);
        for _ in 0..sent.min(2) {
            let mut upstream = backend.accept();
            assert_eq!(upstream.message().head.target(), "/lost", "{label}");
            drop(upstream);
        }
        if sent == 3 {
            backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            assert_eq!(client.message().text(), "ok", "{label}");
        } else {
            client.message().assert_own(502, "upstream_reset");
        }
        assert_eq!(proxy.record()["attempts"], sent, "{label}");
        assert_eq!(proxy.numbers().upstream_dials, u64::try_from(sent).unwrap(), "{label}");
    }
}

#[test]
fn of_pods_that_are_known_one_by_one_another_one_is_asked_at_once() {
    let backends = [Backend::start(), Backend::start()];
    let endpoints = backends.each_ref().map(|backend| Ready(backend.address()));
    let mut proxy = Proxy::start(&service(Service::DialEndpoints(backends[0].address()), &endpoints));
    let [one, other] = &backends;
    let mut client = proxy.connect();
    client.send(GET);
    let (first, second) = loop {
        if let Some(dying) = one.accept_within(Duration::from_millis(5)) {
            break (dying, other);
        }
        if let Some(dying) = other.accept_within(Duration::from_millis(5)) {
            break (dying, one);
        }
    };
    drop(first);
    second.answer(NO_CONTENT);
    assert_eq!(client.message().status(), 204);
    assert_eq!(proxy.record()["attempts"], 2);
}

#[test]
fn after_a_connection_that_was_kept_two_new_ones_may_be_tried() {
    let lost = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start().serve_each({
        let lost = Arc::clone(&lost);
        move |_, mut wire| {
            while wire.stirs(PATIENCE) && !wire.ended() {
                if wire.message().head.target() == "/lost" && lost.fetch_add(1, Ordering::Relaxed) < 2 {
                    return;
                }
                wire.send(NO_CONTENT);
            }
        }
    });
    let endpoints = ["192.0.2.1:80", "192.0.2.2:80"].map(|pod| Ready(pod.parse().unwrap()));
    let mut proxy = Proxy::start(&service(Service::ClusterIp(backend), &endpoints));
    let mut client = proxy.connect();
    assert_eq!(client.exchange(GET).status(), 204);
    proxy.record();
    assert_eq!(client.exchange("GET /lost HTTP/1.1\r\nHost: a\r\n\r\n").status(), 204);
    assert_eq!(proxy.record()["attempts"], 3);
    assert_eq!(lost.load(Ordering::Relaxed), 3);
}

#[test]
fn a_connection_that_died_while_idle_takes_no_request_with_it() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for round in 0..30 {
        let (mut client, upstream) = warm(&proxy, &backend);
        // Right before the request: the proxy learns of both at once.
        if round % 2 == 0 {
            drop(upstream);
        } else {
            upstream.reset();
        }
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        let (upstream, request) = backend.answer("HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(request.text(), "body", "round {round}");
        assert_eq!(client.message().status(), 201, "round {round}");
        drop(upstream);
    }
}

#[test]
fn retries_come_to_an_end_when_they_are_too_many() {
    // Each connection answers once and leaves the second request unanswered: nearly every request needs a retry.
    let connections = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start().serve_each({
        let connections = Arc::clone(&connections);
        move |_, mut wire| {
            connections.fetch_add(1, Ordering::Relaxed);
            wire.message();
            wire.send(NO_CONTENT);
            if wire.stirs(PATIENCE) && !wire.ended() {
                wire.message();
            }
        }
    });
    let proxy = Proxy::to(backend);
    let mut client = proxy.connect();
    let mut answered = 0;
    let refused = loop {
        let response = client.exchange(GET);
        if response.status() != 204 {
            break response;
        }
        answered += 1;
        assert!(answered < 10 * RETRY_BUDGET_MAX, "no end of retries");
    };
    refused.assert_own(502, "upstream_reset");
    // What was saved up, and what these requests earned: each a part of a retry, where it took a whole one.
    let expected = RETRY_BUDGET_MAX * RETRY_BUDGET_REQUESTS / (RETRY_BUDGET_REQUESTS - 1);
    assert!(answered.abs_diff(expected) <= 2, "{answered} requests answered, where {expected} were expected");
    let numbers = proxy.numbers();
    assert_eq!((numbers.retries, numbers.retries_denied), (u64::from(answered) - 1, 1));
    assert_eq!(connections.load(Ordering::Relaxed), answered as usize);
}
