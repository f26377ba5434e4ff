//! What EndpointSlices change about a Service: hints behind a ClusterIP, or the pods themselves dialled.

use std::{collections::HashSet, fmt::Write as _, net::SocketAddr, time::Duration};

use crate::support::{Backend, GET, Proxy, Wire, manifest};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A Service on `backend`, with an EndpointSlice of these `(address, conditions)`.
fn service(backend: SocketAddr, endpoints: &[(&str, &str)]) -> String {
    let mut yaml = manifest(&[("", "/", backend)]);
    write!(
        yaml,
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: slice, namespace: tests, labels: {{ kubernetes.io/service-name: service-0 }} }}
addressType: IPv4
ports: [{{ port: {} }}]
endpoints:
",
        backend.port()
    )
    .unwrap();
    for (address, conditions) in endpoints {
        writeln!(yaml, "  - {{ addresses: [{address}], conditions: {{ {conditions} }} }}").unwrap();
    }
    yaml
}

const READY: &str = "ready: true";
const TERMINATING: &str = "ready: false, serving: true, terminating: true";

/// As [`service`], its pods dialled directly: by the annotation, or because it is headless.
fn direct(backend: SocketAddr, endpoints: &[(&str, &str)], headless: bool) -> String {
    let yaml = service(backend, endpoints);
    if headless {
        yaml.replace(&format!("clusterIP: {}", backend.ip()), "clusterIP: None")
    } else {
        yaml.replace(
            "metadata: { name: service-0, namespace: tests }",
            "metadata: { name: service-0, namespace: tests, annotations: { nodegate.dev/dial: endpoints } }",
        )
    }
}

#[test]
fn a_pod_that_goes_away_retires_idle_connections() {
    for (label, after) in [("terminating", vec![("192.0.2.1", READY), ("192.0.2.2", TERMINATING)]), ("gone", vec![("192.0.2.1", READY)])] {
        let backend = Backend::start();
        let mut proxy = Proxy::start(&service(backend.address(), &[("192.0.2.1", READY), ("192.0.2.2", READY)]));
        let mut client = proxy.connect();
        client.send(GET);
        let (mut old, _) = backend.answer(OK);
        assert_eq!(client.message().text(), "ok");
        proxy.publish(&service(backend.address(), &after));
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        let (_new, request) = backend.answer(OK);
        assert_eq!(request.head.target(), "/next", "{label}");
        assert_eq!(client.message().text(), "ok");
        old.expect_end();
    }
}

#[test]
fn a_service_without_hints_is_dialled_and_not_spread() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = proxy.connect();
    for _ in 0..50 {
        assert_eq!(client.exchange(GET).text(), "hello");
    }
    assert_eq!(proxy.numbers().upstream_dials, 1);
}

#[test]
fn pods_are_dialled_directly_where_that_is_asked_for() {
    for headless in [false, true] {
        let port = Backend::start();
        let pods = [Backend::start_on(port.address().port()), Backend::start_on(port.address().port())];
        let addresses = pods.each_ref().map(|pod| pod.address().ip().to_string());
        let endpoints: Vec<_> = addresses.iter().map(|address| (address.as_str(), READY)).collect();
        let proxy = Proxy::start(&direct(port.address(), &endpoints, headless));
        let mut busy: Vec<(Wire, Wire)> = Vec::new();
        let mut used = HashSet::new();
        // While requests are under way, the next one goes where fewer are: 40 of them can't all land on one of two pods.
        for _ in 0..40 {
            let mut client = proxy.connect();
            client.send(GET);
            let upstream =
                (0..200).find_map(|_| pods.iter().find_map(|pod| pod.accept_within(Duration::from_millis(5)))).expect("a pod is dialled");
            used.insert(upstream.local_address());
            busy.push((client, upstream));
        }
        assert_eq!(used.len(), 2, "headless: {headless}");
        assert!(port.accept_within(Duration::from_millis(20)).is_none(), "the ClusterIP was dialled");
    }
}

#[test]
fn a_pod_that_refuses_is_passed_over() {
    let alive = Backend::start();
    let port = alive.address().port();
    let address = alive.address();
    alive.serve("hello");
    // Nobody listens on the second address.
    let endpoints = [(&*address.ip().to_string(), READY), ("127.43.98.1", READY)];
    let proxy = Proxy::start(&direct(SocketAddr::new(address.ip(), port), &endpoints, true));
    for _ in 0..30 {
        let response = proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(response.text(), "hello");
    }
    assert!(proxy.numbers().upstream_dial_failures > 0, "the dead pod was never tried");
}
