//! Where a request is sent: ClusterIP, endpoints, DNS; and what becomes of it when nobody takes it there.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use nodegate::{compile::Options, config::limits::MAX_ATTEMPTS};

use crate::support::{
    Backend,
    Endpoint::{Ready, Terminating},
    Full, Proxy, Refusing, Service, Wire, manifest, service,
};

const SHORT: Duration = Duration::from_millis(500);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

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
fn unknown_endpoints_are_dialled() {
    let backend = Backend::start().serve("hello");
    assert_eq!(Proxy::start(&service(Service::ClusterIp(backend), &[])).get("a", "/").text(), "hello");
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
fn a_headless_service_is_dialled_at_its_endpoints() {
    let (one, other) = (Backend::start().serve("one"), Backend::start().serve("other"));
    let proxy = Proxy::start(&service(Service::Headless, &[Ready(one), Ready(other)]));
    let mut answers = HashMap::new();
    while answers.len() < 2 {
        *answers.entry(proxy.get("a", "/").text().to_owned()).or_insert(0) += 1;
    }
    assert!(answers.contains_key("one") && answers.contains_key("other"), "{answers:?}");
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
fn an_endpoint_that_refuses_is_passed_over() {
    let (alive, dead) = (Backend::start().serve("alive"), Refusing::start());
    let proxy = Proxy::start(&service(Service::Headless, &[Ready(alive), Ready(dead.address())]));
    (0..30).for_each(|_| assert_eq!(proxy.get("a", "/").text(), "alive"));
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
fn a_connection_that_is_never_established_is_504() {
    let full = Full::start();
    let mut proxy = Proxy::to_with(full.address(), |settings| settings.limits.connect_timeout = SHORT);
    proxy.get("a", "/").assert_own(504, "upstream_timeout");
    assert_eq!(proxy.record()["upstream"], full.address().to_string());
}

#[test]
fn an_external_name_is_resolved_and_dialled() {
    let backend = Backend::on(Ipv4Addr::LOCALHOST);
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
    let backend = Backend::on(Ipv4Addr::LOCALHOST);
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
fn a_backend_that_never_answers_is_504() {
    let backend = Backend::start();
    let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
    for (label, beginning) in [("silent", ""), ("half a head", "HTTP/1.1 200 OK\r\nX: y\r\n")] {
        println!("{label}");
        let mut client = sent(&proxy);
        let mut upstream = backend.accept();
        upstream.message();
        upstream.send(beginning);
        client.message().assert_own(504, "upstream_timeout");
        upstream.expect_end();
        assert_eq!(proxy.record()["reason"], "upstream_timeout");
        // The client's connection is none the worse for it.
        client.send(GET);
        backend.answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!(client.message().status(), 204);
        proxy.record();
    }
}

#[test]
fn interim_responses_buy_no_time() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
    let mut client = sent(&proxy);
    let mut upstream = backend.accept();
    upstream.message();
    let mut sent = 0;
    while upstream.try_send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n").is_ok() && !upstream.stirs(Duration::from_millis(20))
    {
        sent += 1;
        assert!(sent < 1000, "still listening");
    }
    client.message().assert_own(504, "upstream_timeout");
}

#[test]
fn a_long_upload_is_no_slow_backend() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.first_byte_timeout = SHORT);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n");
    let mut upstream = backend.accept();
    let head = upstream.head();
    for _ in 0..20 {
        // Two seconds altogether, four times the deadline.
        assert!(!client.stirs(Duration::from_millis(100)), "answered in mid-upload");
        client.send("x");
    }
    assert_eq!(upstream.body(head).body.len(), 20);
    // From here on the deadline runs.
    client.message().assert_own(504, "upstream_timeout");
}

#[test]
fn a_backend_that_breaks_off_before_its_answer_is_502() {
    for (label, beginning, reset) in [
        ("closed before the head", "", false),
        ("reset before the head", "", true),
        ("closed in mid-head", "HTTP/1.1 200 OK\r\nContent-Le", false),
        ("reset in mid-head", "HTTP/1.1 200 OK\r\nContent-Le", true),
        ("closed after an interim response", "HTTP/1.1 103 Early Hints\r\n\r\n", false),
    ] {
        println!("{label}");
        let backend = Backend::start();
        let mut proxy = Proxy::to(backend.address());
        let mut client = sent(&proxy);
        let (upstream, _) = backend.answer(beginning);
        if reset {
            upstream.reset();
        } else {
            drop(upstream);
        }
        client.message().assert_own(502, "upstream_reset");
        assert_eq!(proxy.record()["attempts"], 1, "{label}: tried again on a new connection, which can't have been stale");
    }
}

#[test]
fn a_response_that_is_no_valid_http_is_502() {
    let (mebi, fields) = (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000)), "X: y\r\n".repeat(201));
    let fields = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    for (label, response) in [
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        ("no status line", "<html>\r\n\r\n"),
        ("no status", "HTTP/1.1 abc OK\r\n\r\n"),
        ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
        ("another version", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("Content-Length and Transfer-Encoding", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("the other way round", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        ("an enormous length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        ("a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nab"),
        ("x, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked, x", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n"),
        ("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a field without a colon", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n"),
        ("NUL in a field", "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
        ("obs-fold", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"),
        ("a switch of protocols unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("200 KB of headers", &mebi),
        ("too many fields", &fields),
    ] {
        println!("{label}");
        let backend = Backend::start();
        let mut proxy = Proxy::to(backend.address());
        let mut client = sent(&proxy);
        let mut upstream = backend.accept();
        upstream.message();
        // It may be cut off before it has said everything.
        let _ = upstream.try_send(response);
        client.message().assert_own(502, "upstream_invalid");
        upstream.expect_end();
        assert_eq!(proxy.record()["attempts"], 1, "{label}");
        client.send(GET);
        backend.answer("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.message().status(), 204, "{label}: the client's connection");
    }
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
fn a_body_that_stalls_ends_in_an_error() {
    for (label, head) in [("sized", "Content-Length: 100\r\n\r\nhalf"), ("chunked", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")] {
        println!("{label}");
        let backend = Backend::start();
        let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.response_idle_timeout = SHORT);
        let mut client = sent(&proxy);
        let mut upstream = backend.accept();
        upstream.message();
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}"));
        assert!(!client.message().complete, "{label}");
        upstream.expect_end();
        assert_eq!(proxy.record()["reason"], "upstream_timeout");
        assert_eq!(proxy.numbers().response_stalls, 1);
    }
}

#[test]
fn a_body_that_keeps_coming_is_not_cut_off() {
    let backend = Backend::start();
    let proxy = Proxy::to_with(backend.address(), |settings| settings.limits.response_idle_timeout = SHORT);
    let mut client = sent(&proxy);
    let mut upstream = backend.accept();
    upstream.message();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        assert!(!upstream.stirs(Duration::from_millis(100)), "cut off");
        upstream.send("x");
    }
    let response = client.message();
    assert_eq!((response.status(), response.complete), (200, true));
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
