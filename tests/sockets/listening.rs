//! The listening sockets: both address families, one port for all workers, and who may come in.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use nodegate::{
    config::limits::Limits,
    message::{IpSet, Trust},
    proxy::{self, MinVersion, Settings},
};
use rustix::process::Signal;

use crate::support::{Backend, GET, Nodegate, PATIENCE, Proxy, Wire, manifest};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

#[test]
fn ipv4_and_ipv6_are_served() {
    let backend = Backend::start();
    let mut proxy = Proxy::to_with(backend.address(), |settings| settings.http = vec![V4, V6]);
    for (address, client_ip) in [(proxy.addresses[0], "127.0.0.1"), (proxy.addresses[1], "::1")] {
        let mut client = Wire::connect(address);
        client.send(GET);
        let (_upstream, request) = backend.answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!(client.message().status(), 204);
        assert_eq!(request.head.field("x-real-ip"), Some(client_ip));
        assert_eq!(request.head.field("x-forwarded-port"), Some(&*address.port().to_string()));
        assert_eq!(proxy.record()["client"], client_ip);
    }
}

#[test]
fn one_port_is_bound_for_each_family() {
    // As 0.0.0.0:80 and [::]:80 are: the second doesn't take IPv4 for itself.
    let any = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))];
    let backend = Backend::start().serve("hello");
    let first = Proxy::to_with(backend, |settings| settings.http = vec![any[0]]);
    let port = first.address.port();
    let second = Proxy::to_with(backend, |settings| settings.http = vec![SocketAddr::new(any[1].ip(), port)]);
    for (address, asked, other) in [(SocketAddr::new(V4.ip(), port), &first, &second), (SocketAddr::new(V6.ip(), port), &second, &first)] {
        let before = other.numbers().connections_accepted;
        assert_eq!(Wire::connect(address).exchange(GET).text(), "hello");
        assert!(asked.numbers().connections_accepted > 0);
        assert_eq!(other.numbers().connections_accepted, before, "{address}");
    }
}

#[test]
fn all_workers_share_one_port() {
    let proxy = Proxy::to_with(Backend::start().serve("hello"), |settings| settings.workers = 4);
    // The kernel spreads connections by a hash: that it leaves one of four out of a hundred has a chance of 1 in 10^12.
    for _ in 0..100 {
        assert_eq!(proxy.exchange(GET).text(), "hello");
    }
    let accepted: Vec<u64> = proxy.numbers_of_each().iter().map(|numbers| numbers.connections_accepted).collect();
    assert_eq!((accepted.len(), accepted.iter().sum::<u64>()), (4, 100), "{accepted:?}");
    assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
}

#[test]
fn every_worker_drains() {
    let proxy = Proxy::to_with(Backend::start().serve("hello"), |settings| settings.workers = 4);
    let mut clients: Vec<Wire> = (0..40).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.exchange(GET).text(), "hello");
    }
    proxy.drain(PATIENCE);
    clients.iter_mut().for_each(Wire::expect_end);
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn a_port_in_use_is_an_error_before_anything_is_served() {
    let taken = TcpListener::bind(V4).unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings {
        http: vec![V4, address],
        https: Vec::new(),
        h2c: Vec::new(),
        http2: true,
        tls_min_version: MinVersion::Tls12,
        workers: 1,
        trust: Trust::parse(&[], None).unwrap(),
        proxy_protocol: None,
        allow_peers: None,
        server_header: true,
        allow_unsafe_external: false,
        limits: Limits::default(),
    };
    let error = proxy::bind(settings).unwrap_err();
    assert_eq!(error.address, address);
    assert!(error.to_string().contains("name another address with --http"), "{error}");
}

#[test]
fn peers_that_are_not_allowed_are_closed_at_accept() {
    let only_v6 = || Some(IpSet::parse(&["::1/128".to_owned()], None).unwrap());
    let proxy = Proxy::to_with(Backend::start().serve("hello"), |settings| {
        (settings.http, settings.allow_peers) = (vec![V4, V6], only_v6());
    });
    // Without a word having been said.
    Wire::connect(proxy.addresses[0]).expect_end();
    assert_eq!(Wire::connect(proxy.addresses[1]).exchange(GET).text(), "hello");
    let numbers = proxy.numbers();
    assert_eq!((numbers.connections_refused, numbers.connections_accepted), (1, 1));
}

#[test]
fn peers_that_are_not_allowed_cost_nobody_their_place() {
    let proxy = Proxy::to_with(Backend::start().serve("hello"), |settings| {
        settings.http = vec![V4, V6];
        settings.allow_peers = Some(IpSet::parse(&["127.0.0.0/8".to_owned()], None).unwrap());
        settings.limits.max_connections = 1;
    });
    let mut client = Wire::connect(proxy.addresses[0]);
    assert_eq!(client.exchange(GET).text(), "hello");
    // They neither wait for a place nor have an idle connection closed for their sake.
    (0..3).for_each(|_| Wire::connect(proxy.addresses[1]).expect_end());
    assert_eq!(client.exchange(GET).text(), "hello");
    let numbers = proxy.numbers();
    assert_eq!((numbers.connections_refused, numbers.connections_evicted, numbers.accept_paused), (3, 0, 0));
}

#[test]
fn clients_that_wait_in_the_queue_when_a_drain_begins_are_served() {
    // Beyond the limit of one connection, all others are in the kernel's queue.
    let backend = Backend::start();
    let mut nodegate = Nodegate::serve(&manifest(&[("", "/", backend.address())]), &["--max-connections", "1"]);
    let mut first = nodegate.connect();
    first.send(GET);
    let mut upstream = backend.accept();
    upstream.message();
    let mut waiting: Vec<Wire> = (0..20).map(|_| nodegate.connect()).collect();
    for client in &mut waiting {
        client.send(GET);
    }
    assert!(backend.accept_within(Duration::from_millis(50)).is_none(), "more than one connection");
    nodegate.signal(Signal::TERM);
    backend.serve("hello");
    for client in &mut waiting {
        let response = client.message();
        assert_eq!((response.text(), response.head.field("connection")), ("hello", Some("close")));
        client.expect_end();
    }
    upstream.send(OK);
    assert_eq!(first.message().text(), "ok");
    assert_eq!(nodegate.exit().code(), Some(0));
}
