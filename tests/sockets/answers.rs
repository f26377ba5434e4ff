//! What the proxy answers itself: status, reason code, and a body that tells nothing of the inside.

use std::{net::SocketAddr, time::Duration};

use crate::support::{Backend, Proxy, Refusing, manifest};

#[test]
fn no_route_is_404() {
    let backend = Backend::start();
    let mut proxy = Proxy::start(&manifest(&[("known.test", "/a", backend.address())]));
    proxy.get("unknown.test", "/a").assert_own(404, "no_route");
    proxy.get("known.test", "/b").assert_own(404, "no_route");
    let record = proxy.record();
    assert_eq!((&record["status"], &record["reason"], &record["host"]), (&404.into(), &"no_route".into(), &"unknown.test".into()));
}

#[test]
fn before_the_first_table_it_is_503_and_never_404() {
    let mut proxy = Proxy::without_table(|_| {});
    let mut client = proxy.connect();
    let response = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    response.assert_own(503, "not_ready");
    assert_eq!(response.head.field("retry-after"), Some("1"));
    proxy.publish("");
    client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").assert_own(404, "no_route");
}

#[test]
fn a_connection_survives_answers_that_leave_its_framing_intact() {
    let proxy = Proxy::start(&manifest(&[("known.test", "/", Backend::start().serve("hello"))]));
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.exchange("GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n").assert_own(404, "no_route");
        client.exchange("TRACE / HTTP/1.1\r\nHost: known.test\r\n\r\n").assert_own(405, "method");
        assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: known.test\r\n\r\n").text(), "hello");
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_announces_the_end_of_the_connection() {
    let (backend, refusing) = (Backend::start(), Refusing::start());
    let manifests = manifest(&[("broken.test", "/", backend.address()), ("refusing.test", "/", refusing.address())])
        .replace("metadata: { name: service-0, namespace: tests }", "metadata: { name: elsewhere, namespace: tests }");
    let mut proxy = Proxy::start("");
    proxy.publish_despite(&manifests);
    for (host, status, reason) in
        [("unknown.test", 404, "no_route"), ("broken.test", 503, "bad_backend"), ("refusing.test", 502, "upstream_connect")]
    {
        for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
            let mut client = proxy.connect();
            let response = client.exchange(format!("POST / HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n"));
            response.assert_own(status, reason);
            assert_eq!(response.head.field("connection"), Some("close"), "{host} {framing}");
            client.expect_end();
        }
    }
}

#[test]
fn every_answer_says_when_it_was_made() {
    let proxy = Proxy::start("");
    for (label, request) in
        [("by the server", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), ("in its place", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n")]
    {
        let response = proxy.exchange(request);
        let date = response.head.field("date").unwrap_or_default();
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{label}: {:?}", response.head);
    }
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    let proxy = Proxy::start("");
    let mut client = proxy.connect();
    let response = client.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    response.assert_own(404, "no_route");
    assert_ne!(response.head.field("content-length"), Some("0"));
    client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").assert_own(404, "no_route");
}

#[test]
fn an_unknown_expectation_is_417() {
    let proxy = Proxy::to(Backend::start().address());
    for expect in ["miracles", "100-continue\r\nExpect: foo", "foo\r\nExpect: 100-continue"] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {expect}\r\nContent-Length: 1\r\n\r\n");
        proxy.exchange(request).assert_own(417, "expectation");
    }
}

#[test]
fn a_service_that_does_not_exist_is_503_and_falls_through_to_nothing() {
    let backend = Backend::start();
    let broken = manifest(&[("a.test", "/", backend.address()), ("a.test", "/api", backend.address())])
        .replace("metadata: { name: service-1, namespace: tests }", "metadata: { name: elsewhere, namespace: tests }");
    let mut proxy = Proxy::start("");
    proxy.publish_despite(&broken);
    proxy.get("a.test", "/api/x").assert_own(503, "bad_backend");
    assert!(backend.accept_within(Duration::from_millis(20)).is_none());
}

#[test]
fn no_ready_endpoint_is_503_at_once() {
    let backend = Backend::start();
    let mut proxy = Proxy::start(&slices(backend.address(), "false"));
    proxy.get("a", "/").assert_own(503, "no_endpoints");
    assert!(backend.accept_within(Duration::from_millis(20)).is_none());
    proxy.publish(&slices(backend.address(), "true"));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.answer("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.head().status(), 204);
}

fn slices(backend: SocketAddr, ready: &str) -> String {
    let port = backend.port();
    manifest(&[("", "/", backend)])
        + &format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: s, namespace: tests, labels: {{ kubernetes.io/service-name: service-0 }} }}
addressType: IPv4
ports: [{{ port: {port} }}]
endpoints: [{{ addresses: [192.0.2.1], conditions: {{ ready: {ready} }} }}]
"
        )
}

#[test]
fn a_refused_connection_is_502() {
    // Bound and not listening: nobody else gets the port, and connecting to it is refused.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 43, 99, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut proxy = Proxy::to(address);
    let response = proxy.get("a", "/");
    response.assert_own(502, "upstream_connect");
    let text = format!("{response:?}");
    assert!(!text.contains("127.43.99.1") && !text.contains("service-0"), "tells of the inside: {text}");
    let record = proxy.record();
    assert_eq!(
        (&record["upstream"], &record["backend"]),
        (&address.to_string().into(), &format!("tests/service-0:{}", address.port()).into())
    );
}

#[test]
fn the_body_takes_the_form_that_accept_prefers() {
    let proxy = Proxy::start("");
    for (accept, content_type, start) in [
        ("*/*", "text/plain; charset=utf-8", "404"),
        ("application/json", "application/json", "{\"status\":404"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8", "<!doctype html>"),
    ] {
        let response = proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"));
        response.assert_own(404, "no_route");
        assert_eq!(response.head.field("content-type"), Some(content_type));
        assert!(response.text().starts_with(start), "{}", response.text());
        assert!(response.complete);
    }
}
