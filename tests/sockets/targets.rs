//! Where a request is sent: ClusterIPs, pods, names; and what becomes of it where there is nobody.

use std::{net::Ipv6Addr, time::Duration};

use nodegate::{
    compile::Options,
    config::limits::{DIALS_AT_ONCE, MAX_ATTEMPTS},
};

use crate::support::{
    Backend,
    Endpoint::{Ready, Terminating},
    GET, Proxy, Refusing, Service, Wire, manifest, service,
};

/// A request that is on its way.
fn sent(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect();
    client.send(GET);
    client
}

#[test]
fn no_ready_endpoint_is_answered_without_dialling() {
    let backend = Backend::start();
    let mut proxy = Proxy::start("");
    let options = Options { endpoints_authoritative: true, ..Options::default() };
    for kind in [Service::ClusterIp(backend.address()), Service::DialEndpoints(backend.address()), Service::Headless] {
        println!("{kind:?}");
        proxy.publish_with(&service(kind, &[]), &options);
        proxy.get("a", "/").assert_own(503, "no_endpoints");
    }
    assert_eq!(proxy.numbers().upstream_dials, 0);
}

#[test]
fn terminating_endpoints_serve_where_none_is_ready() {
    let backend = Backend::start().serve("hello");
    for kind in [Service::ClusterIp(backend), Service::DialEndpoints(backend), Service::Headless] {
        println!("{kind:?}");
        assert_eq!(Proxy::start(&service(kind, &[Terminating(backend)])).get("a", "/").text(), "hello");
    }
    // They don't where one is.
    let (ready, leaving) = (Backend::start().serve("ready"), Backend::start().serve("leaving"));
    let proxy = Proxy::start(&service(Service::Headless, &[Ready(ready), Terminating(leaving)]));
    (0..20).for_each(|_| assert_eq!(proxy.get("a", "/").text(), "ready"));
}

#[test]
fn of_two_endpoints_the_less_loaded_gets_the_request() {
    let (one, other) = (Backend::start(), Backend::start());
    let nobody = Refusing::start();
    let proxy = Proxy::start(&service(Service::DialEndpoints(nobody.address()), &[Ready(one.address()), Ready(other.address())]));
    // None is answered: each request finds the load that all before it make.
    let mut clients = Vec::new();
    let mut upstreams: Vec<Wire> = Vec::new();
    for pair in 0..5 {
        println!("pair {pair}");
        clients.extend([sent(&proxy)]);
        let (first, second) = match one.accept_within(Duration::from_millis(200)) {
            Some(wire) => (wire, &other),
            None => (other.accept(), &one),
        };
        clients.extend([sent(&proxy)]);
        upstreams.extend([first, second.accept()]);
    }
}

#[test]
fn the_other_address_family_is_tried_where_the_first_refuses() {
    let backend = Backend::start();
    let address = backend.address();
    // The port is free on the IPv6 loopback, or somebody of another test answers there with the wrong text.
    let yaml = service(Service::ClusterIp(address), &[])
        .replace(&format!("clusterIP: \"{}\"", address.ip()), &format!("clusterIPs: [\"{}\", \"{}\"]", Ipv6Addr::LOCALHOST, address.ip()));
    let mut proxy = Proxy::start(&yaml);
    backend.serve("hello");
    assert_eq!(proxy.get("a", "/").text(), "hello");
    let record = proxy.record();
    assert_eq!((&record["upstream"], &record["attempts"]), (&address.to_string().into(), &2.into()), "{record}");
}

#[test]
fn a_refused_connection_is_retried_a_few_times() {
    let refusing = Refusing::start();
    let mut proxy = Proxy::to(refusing.address());
    // Nothing was sent: a body is no obstacle.
    proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab").assert_own(502, "upstream_connect");
    assert_eq!(proxy.record()["attempts"], MAX_ATTEMPTS);
    assert_eq!(proxy.numbers().upstream_dials, u64::from(MAX_ATTEMPTS));
    let backend = refusing.listen().serve("hello");
    assert_eq!((proxy.get("a", "/").text(), backend), ("hello", backend));
}

#[test]
fn of_several_pods_behind_one_address_more_are_drawn_where_those_before_refuse() {
    let refusing = Refusing::start();
    let pods = ["192.0.2.1:80", "192.0.2.2:80"].map(|pod| Ready(pod.parse().unwrap()));
    let mut proxy = Proxy::start(&service(Service::ClusterIp(refusing.address()), &pods));
    proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab").assert_own(502, "upstream_connect");
    assert_eq!(proxy.record()["attempts"], DIALS_AT_ONCE);
    let numbers = proxy.numbers();
    assert_eq!((numbers.upstream_dials, numbers.retries), (DIALS_AT_ONCE as u64, DIALS_AT_ONCE as u64 - 1));
}

#[test]
fn an_external_name_is_resolved_and_dialled() {
    let backend = Backend::on_localhost();
    let port = backend.address().port();
    backend.serve("hello");
    let anything = Options { allow_unsafe_external: true, ..Options::default() };
    // `localhost` is in every machine's /etc/hosts.
    for name in ["localhost", "127.0.0.1"] {
        let mut proxy = Proxy::with("", |settings| settings.allow_unsafe_external = true);
        assert_eq!(proxy.publish_with(&service(Service::External(name, port), &[]), &anything), []);
        assert_eq!(proxy.get("a", "/").text(), "hello", "{name}");
        let client = proxy.record();
        assert_eq!(client["upstream"], format!("127.0.0.1:{port}"), "{name}");
    }
}

#[test]
fn an_external_name_may_not_lead_into_the_node() {
    let backend = Backend::on_localhost();
    for name in ["localhost", "127.0.0.1"] {
        let yaml = service(Service::External(name, backend.address().port()), &[]);
        // Refused by its name...
        let mut proxy = Proxy::start("");
        assert_eq!(proxy.publish_despite(&yaml).len(), 1);
        proxy.get("a", "/").assert_own(503, "bad_backend");
        // ...and by the address that a name turns out to have.
        proxy.publish_with(&yaml, &Options { allow_unsafe_external: true, ..Options::default() });
        proxy.get("a", "/").assert_own(503, "bad_backend");
    }
    assert!(backend.accept_within(Duration::from_millis(50)).is_none());
}

#[test]
fn an_external_name_that_does_not_exist_is_502() {
    let mut proxy = Proxy::start("");
    // RFC 6761 section 6.4: never exists, whether a resolver answers or not.
    proxy.publish(&service(Service::External("nowhere.invalid", 80), &[]));
    proxy.get("a", "/").assert_own(502, "upstream_connect");
}

#[test]
fn the_limits_of_a_response_head_are_those_that_are_set() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| {
        (settings.limits.response_head_bytes, settings.limits.response_header_count) = (9000, 150);
    });
    let of_bytes = |bytes: usize| {
        let head = "HTTP/1.1 204 No Content\r\nX: \r\n\r\n";
        head.replace("X: ", &format!("X: {}", "x".repeat(bytes - head.len())))
    };
    let of_fields = |fields: usize| format!("HTTP/1.1 204 No Content\r\n{}\r\n", "X: y\r\n".repeat(fields));
    for (label, response, status) in [
        ("as long as allowed", of_bytes(9000), 204),
        ("too long", of_bytes(9001), 502),
        ("as many as allowed", of_fields(150), 204),
        ("too many", of_fields(151), 502),
    ] {
        let mut client = sent(&proxy);
        let (upstream, _) = backend.answer(response);
        assert_eq!(client.message().status(), status, "{label}");
        drop(upstream);
    }
}

#[test]
fn hosts_of_one_service_share_nothing_with_those_of_another() {
    let (one, other) = (Backend::start().serve("one"), Backend::start().serve("other"));
    let proxy = Proxy::start(&manifest(&[("one.example", "/", one), ("other.example", "/", other)]));
    let mut client = proxy.connect();
    for _ in 0..3 {
        for name in ["one", "other"] {
            assert_eq!(client.exchange(format!("GET / HTTP/1.1\r\nHost: {name}.example\r\n\r\n")).text(), name);
        }
    }
    assert_eq!(proxy.numbers().upstream_dials, 2);
}
