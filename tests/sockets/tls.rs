//! HTTP over TLS: which certificate a client gets, which requests its connection may carry, and how handshakes and connections end.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use nodegate::proxy::{MinVersion, Settings};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::{ProtocolVersion, SignatureScheme, version};

use crate::support::{Backend, Issued, PATIENCE, Proxy, TlsClient, Wire, issue, secret};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SHORT: Duration = Duration::from_millis(300);

fn https(settings: &mut Settings) {
    settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
}

/// An Ingress that leads `hosts` to a backend, with these `(Secret, hosts)` as its TLS.
fn ingress(name: &str, hosts: &[&str], tls: &[(&str, &str)], backend: SocketAddr) -> String {
    let (mut rules, mut entries) = (String::new(), String::new());
    for host in hosts {
        let port = backend.port();
        writeln!(rules, "  - host: \"{host}\"").unwrap();
        writeln!(rules, "    http: {{ paths: [{{ path: /, pathType: Prefix, backend: {{ service: {{ name: {name}, port: {{ number: {port} }} }} }} }}] }}").unwrap();
    }
    for (secret, hosts) in tls {
        writeln!(entries, "  - {{ secretName: {secret}, hosts: [{hosts}] }}").unwrap();
    }
    let tls = if tls.is_empty() { entries } else { format!("  tls:\n{entries}") };
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: tests }}
spec: {{ clusterIP: {}, ports: [{{ port: {} }}] }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name}, namespace: tests }}
spec:
  ingressClassName: nodegate
{tls}  rules:
{rules}",
        backend.ip(),
        backend.port()
    )
}

fn ecdsa(names: &[&str]) -> Issued {
    issue(&PKCS_ECDSA_P256_SHA256, names)
}

/// One host with a certificate, and everything that answers `ok`.
fn one(backend: SocketAddr) -> (String, Issued) {
    let issued = ecdsa(&["a.example"]);
    (ingress("a", &["a.example"], &[("a", "a.example")], backend) + &secret("tests", "a", &issued), issued)
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// The address with TLS.
fn address(proxy: &Proxy) -> SocketAddr {
    *proxy.addresses.last().unwrap()
}

#[test]
fn a_request_is_forwarded_as_one_over_https() {
    let backend = Backend::start();
    let (manifests, issued) = one(backend.address());
    let proxy = Proxy::with(&manifests, https);
    let mut client = TlsClient::new().connect(address(&proxy), Some("a.example"));
    assert_eq!((client.certificate, client.protocol.as_deref()), (issued.der, Some(&b"http/1.1"[..])));
    client.wire.send(get("a.example"));
    let (mut upstream, request) = backend.answer(OK);
    assert_eq!(client.wire.message().text(), "ok");
    let field = |name| request.head.all(name);
    assert_eq!(field("X-Forwarded-Proto"), ["https"]);
    assert_eq!(field("X-Forwarded-Port"), [address(&proxy).port().to_string()]);
    // Plain HTTP is served beside it.
    assert_eq!(proxy.numbers().handshakes, 1);
    let mut plain = proxy.connect();
    plain.send(get("a.example"));
    assert_eq!(upstream.message().head.all("X-Forwarded-Proto"), ["http"]);
    upstream.send(OK);
    assert_eq!(plain.message().text(), "ok");
}

#[test]
fn each_host_has_the_certificate_of_its_own_ingress() {
    let backend = Backend::start().serve("ok");
    let (exact, wildcard, other) = (ecdsa(&["a.example"]), ecdsa(&["*.shop.example"]), ecdsa(&["b.example"]));
    let manifests = ingress("a", &["a.example", "plain.shop.example"], &[("a", "a.example")], backend)
        + &ingress("shop", &["*.shop.example"], &[("shop", "\"*.shop.example\"")], backend)
        + &ingress("b", &["b.example", "c.example"], &[("b", "b.example")], backend)
        + &secret("tests", "a", &exact)
        + &secret("tests", "shop", &wildcard)
        + &secret("tests", "b", &other);
    let proxy = Proxy::with(&manifests, https);
    let client = TlsClient::new();
    let got = |name: Option<&str>| client.connect(address(&proxy), name).certificate;
    let own = got(None);
    for (name, expected) in [
        ("a.example", &exact.der),
        ("A.EXAMPLE", &exact.der),
        ("a.example.", &exact.der),
        ("x.shop.example", &wildcard.der),
        ("y.x.shop.example", &own),
        ("shop.example", &own),
        // Rules name it as such, and its Ingress has no certificate for it.
        ("plain.shop.example", &own),
        ("b.example", &other.der),
        ("c.example", &own),
        ("unknown.example", &own),
    ] {
        assert_eq!(&got(Some(name)), expected, "{name}");
    }
    assert!(![&exact.der, &wildcard.der, &other.der].contains(&&own));
}

#[test]
fn a_client_gets_the_best_certificate_that_it_understands() {
    let backend = Backend::start().serve("ok");
    let (elliptic, rsa) = (ecdsa(&["a.example"]), issue(&PKCS_RSA_SHA256, &["a.example"]));
    let manifests = ingress("a", &["a.example"], &[("old", "a.example"), ("new", "a.example")], backend)
        + &secret("tests", "new", &elliptic)
        + &secret("tests", "old", &rsa);
    let proxy = Proxy::with(&manifests, https);
    let both = [&version::TLS13, &version::TLS12];
    let is_rsa = |scheme: SignatureScheme| format!("{scheme:?}").starts_with("RSA");
    for (client, expected) in [(TlsClient::new(), &elliptic.der), (TlsClient::with(&both, is_rsa), &rsa.der)] {
        assert_eq!(&client.connect(address(&proxy), Some("a.example")).certificate, expected);
    }
}

#[test]
fn a_new_certificate_is_there_at_the_next_handshake_and_ends_no_connection() {
    let backend = Backend::start().serve("ok");
    let (manifests, old) = one(backend);
    let mut proxy = Proxy::with(&manifests, https);
    let client = TlsClient::new();
    let mut before = client.connect(address(&proxy), Some("a.example"));
    assert_eq!(before.certificate, old.der);
    let new = ecdsa(&["a.example"]);
    proxy.publish(&(ingress("a", &["a.example"], &[("a", "a.example")], backend) + &secret("tests", "a", &new)));
    assert_eq!(TlsClient::new().connect(address(&proxy), Some("a.example")).certificate, new.der);
    assert_eq!(before.wire.exchange(get("a.example")).text(), "ok");
}

#[test]
fn a_connection_carries_no_request_for_a_host_with_another_certificate() {
    let backend = Backend::start().serve("ok");
    let (one, other) = (ecdsa(&["a.example", "b.example"]), ecdsa(&["c.example"]));
    let manifests = ingress("a", &["a.example"], &[("ab", "a.example")], backend)
        + &ingress("b", &["b.example"], &[("ab", "b.example")], backend)
        + &ingress("c", &["c.example", "d.example", "e.example"], &[("c", "c.example")], backend)
        + &secret("tests", "ab", &one)
        + &secret("tests", "c", &other);
    let mut proxy = Proxy::with(&manifests, https);
    for (asked, host, expected) in [
        (Some("a.example"), "a.example", 200),
        (Some("a.example"), "A.example:443", 200),
        (Some("a.example"), "b.example", 200),
        (Some("a.example"), "c.example", 421),
        (Some("a.example"), "d.example", 421),
        (Some("d.example"), "e.example", 200),
        (Some("a.example."), "a.example", 200),
        (Some("d.example"), "c.example", 421),
        (Some("unknown.example"), "d.example", 200),
        (None, "d.example", 200),
        (None, "a.example", 421),
    ] {
        let mut client = TlsClient::new().connect(address(&proxy), asked);
        let response = client.wire.exchange(get(host));
        assert_eq!(response.status(), expected, "asked for {asked:?}, then {host}");
        let record = proxy.record();
        if expected == 421 {
            response.assert_own(421, "misdirected");
            assert_eq!(record["reason"], "misdirected");
            // The connection is as good as before for its own host.
            let own = asked.unwrap_or("d.example");
            assert_eq!(client.wire.exchange(get(own)).status(), 200);
            proxy.record();
        }
    }
    // HTTP/1.0 may leave the host out.
    let mut client = TlsClient::new().connect(address(&proxy), Some("a.example"));
    assert_eq!(client.wire.exchange("GET / HTTP/1.0\r\n\r\n").status(), 404);
    // Without TLS nothing was asked for.
    assert_eq!(proxy.get("c.example", "/").status(), 200);
}

#[test]
fn both_versions_are_spoken_and_the_older_one_can_be_refused() {
    let backend = Backend::start().serve("ok");
    let (manifests, _) = one(backend);
    let (new, old) = (TlsClient::with(&[&version::TLS13], |_| true), TlsClient::with(&[&version::TLS12], |_| true));
    let both = Proxy::with(&manifests, https);
    for (client, expected) in [(&new, ProtocolVersion::TLSv1_3), (&old, ProtocolVersion::TLSv1_2)] {
        let mut secured = client.connect(address(&both), Some("a.example"));
        assert_eq!((secured.version, secured.wire.exchange(get("a.example")).status()), (expected, 200));
    }
    let strict = Proxy::with(&manifests, |settings| {
        https(settings);
        settings.tls_min_version = MinVersion::Tls13;
    });
    assert_eq!(new.connect(address(&strict), Some("a.example")).version, ProtocolVersion::TLSv1_3);
    assert!(old.try_connect(address(&strict), Some("a.example")).is_err());
    strict.wait_for(|numbers| (numbers.handshakes, numbers.handshakes_failed) == (1, 1));
}

#[test]
fn sessions_are_resumed_also_with_another_worker() {
    let backend = Backend::start().serve("ok");
    let (manifests, _) = one(backend);
    let proxy = Proxy::with(&manifests, |settings| {
        https(settings);
        settings.workers = 2;
    });
    for version in [&version::TLS13, &version::TLS12] {
        let client = TlsClient::with(&[version], |_| true);
        for expected in [false, true, true, true, true, true] {
            let mut secured = client.connect(address(&proxy), Some("a.example"));
            assert_eq!(secured.wire.exchange(get("a.example")).status(), 200);
            assert_eq!(secured.resumed, expected);
        }
    }
}

#[test]
fn a_handshake_that_comes_too_late_ends_and_nobody_waits_for_it() {
    let backend = Backend::start().serve("ok");
    let (manifests, _) = one(backend);
    let proxy = Proxy::with(&manifests, |settings| {
        https(settings);
        settings.limits.tls_handshake_timeout = SHORT;
    });
    let mut silent: Vec<Wire> = (0..20).map(|_| Wire::connect(address(&proxy))).collect();
    // The beginning of a hello.
    silent.iter_mut().skip(10).for_each(|wire| wire.send([22, 3, 1, 2, 0, 1]));
    assert_eq!(TlsClient::new().connect(address(&proxy), Some("a.example")).wire.exchange(get("a.example")).status(), 200);
    silent.iter_mut().for_each(Wire::expect_end);
    proxy.wait_for(|numbers| numbers.connections_open == 0 && numbers.handshakes_timed_out == 20);
}

#[test]
fn who_has_asked_for_nothing_yet_makes_room_at_the_limit_also_in_mid_handshake() {
    let backend = Backend::start().serve("ok");
    let (manifests, _) = one(backend);
    let proxy = Proxy::with(&manifests, |settings| {
        https(settings);
        settings.limits.max_connections = 2;
    });
    let client = TlsClient::new();
    let (mut silent, mut idle) = (Wire::connect(address(&proxy)), client.connect(address(&proxy), Some("a.example")).wire);
    assert_eq!(idle.exchange(get("a.example")).status(), 200);
    for _ in 0..2 {
        let mut other = client.connect(address(&proxy), Some("a.example")).wire;
        assert_eq!(other.exchange(get("a.example")).status(), 200);
    }
    silent.expect_end();
    assert!(proxy.numbers().connections_evicted >= 1);
}

#[test]
fn what_is_no_handshake_ends_the_connection() {
    let backend = Backend::start().serve("ok");
    let (manifests, _) = one(backend);
    let proxy = Proxy::with(&manifests, https);
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..], &[22, 3, 1, 255, 255], &[0; 64]] {
        let mut wire = Wire::connect(address(&proxy));
        wire.send(bytes);
        wire.rest();
    }
    proxy.wait_for(|numbers| numbers.handshakes_failed == 3 && numbers.connections_open == 0);
}

#[test]
fn large_bodies_pass_in_both_directions() {
    const SIZE: usize = 3 << 20;
    let backend = Backend::start();
    let (manifests, _) = one(backend.address());
    let proxy = Proxy::with(&manifests, https);
    let mut client = TlsClient::new().connect(address(&proxy), Some("a.example")).wire;
    let body: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut request = format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
    request.extend_from_slice(&body);
    let (request, expected) = (request, body.clone());
    let sent = std::thread::spawn(move || {
        client.send(request);
        client
    });
    let mut upstream = backend.accept();
    assert!(upstream.message().body == expected);
    let mut client = sent.join().unwrap();
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
    response.extend_from_slice(&body);
    let answering = std::thread::spawn(move || upstream.send(response));
    assert!(client.message().body == body);
    answering.join().unwrap();
}

#[test]
fn a_refused_head_is_answered_and_the_end_is_said() {
    let backend = Backend::start().serve("ok");
    let (manifests, _) = one(backend);
    let proxy = Proxy::with(&manifests, https);
    let mut client = TlsClient::new().connect(address(&proxy), Some("a.example")).wire;
    client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    client.message().assert_own(400, "bad_request");
    let mut client = TlsClient::new().connect(address(&proxy), Some("a.example")).wire;
    client.send("GET / HTTP/1.1\r\nno colon\r\n\r\n");
    client.message().assert_own(400, "bad_request");
    client.expect_end();
}

#[test]
fn idle_connections_end_in_a_drain_and_busy_ones_are_let_finish() {
    let backend = Backend::start();
    let (manifests, _) = one(backend.address());
    let proxy = Proxy::with(&manifests, https);
    let client = TlsClient::new();
    let (mut idle, mut busy) =
        (client.connect(address(&proxy), Some("a.example")).wire, client.connect(address(&proxy), Some("a.example")).wire);
    let mut silent = Wire::connect(address(&proxy));
    idle.send(get("a.example"));
    let (mut upstream, _) = backend.answer(OK);
    assert_eq!(idle.message().text(), "ok");
    busy.send(get("a.example"));
    upstream.message();
    proxy.drain(PATIENCE);
    idle.expect_end();
    silent.expect_end();
    upstream.send(OK);
    assert_eq!(busy.message().text(), "ok");
    busy.expect_end();
    assert!(proxy.drained(PATIENCE));
}

/// A proxy that gives clients up soon, and both ends of a request that isn't answered yet.
fn begun_at_an_impatient_proxy() -> (Proxy, Wire, Wire) {
    let backend = Backend::start();
    let (manifests, _) = one(backend.address());
    let proxy = Proxy::with(&manifests, |settings| {
        https(settings);
        settings.limits.write_stall_timeout = SHORT;
    });
    let mut client = TlsClient::new().connect(address(&proxy), Some("a.example")).wire;
    client.send(get("a.example"));
    let mut upstream = backend.accept();
    upstream.message();
    (proxy, client, upstream)
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let (proxy, client, mut upstream) = begun_at_an_impatient_proxy();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    let zeros = vec![0; 1 << 20];
    // Until the kernel's buffers on the way are full, and the proxy has had enough.
    while upstream.try_send(&zeros).is_ok() {}
    // What is still to be written doesn't keep it open, and neither does a client that stays.
    proxy.wait_for(|numbers| numbers.write_stalls == 1 && numbers.connections_open == 0);
    drop(client);
}

#[test]
fn a_client_that_takes_little_by_little_is_not_given_up() {
    // More than the kernel's buffers on the way hold.
    const SIZE: usize = 64 << 20;
    const PIECES: usize = 32;
    let (proxy, mut client, mut upstream) = begun_at_an_impatient_proxy();
    let answering = std::thread::spawn(move || {
        upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        upstream.send(vec![0; SIZE]);
    });
    client.head();
    for _ in 0..PIECES {
        let mut left = SIZE / PIECES;
        while left > 0 {
            left -= client.some(left);
        }
        // A slow client: the proxy's clock runs meanwhile.
        std::thread::park_timeout(SHORT / 4);
    }
    answering.join().unwrap();
    assert_eq!(proxy.numbers().write_stalls, 0);
}

#[test]
fn a_client_with_nothing_in_common_is_told_so() {
    let backend = Backend::start().serve("ok");
    let (manifests, _) = one(backend);
    let proxy = Proxy::with(&manifests, https);
    let is_rsa = |scheme: SignatureScheme| format!("{scheme:?}").starts_with("RSA");
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let Err(error) = TlsClient::with(versions, is_rsa).try_connect(address(&proxy), Some("a.example")) else { panic!("a handshake") };
        assert!(error.contains("HandshakeFailure"), "{error}");
    }
    // Counted a moment after the client has heard of it.
    proxy.wait_for(|numbers| numbers.handshakes_failed == 2);
}
