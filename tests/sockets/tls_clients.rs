//! `nodegate.dev/client-ca-secret`: who comes in, and that there is no way around it. Cloudflare's Authenticated Origin Pulls are this.

use std::{fmt::Write as _, net::SocketAddr};

use nodegate::proxy::Settings;
use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::support::{Authority, Backend, Http2, PATIENCE, Proxy, TlsClient, Wire, issue, manifest, secret};

/// Ingresses for `closed.example`, for clients of these authorities alone (for everybody where there are none), and for `open.example`; both have the same
/// certificate.
fn manifests(backend: SocketAddr, authorities: &[&Authority]) -> String {
    let both = issue(&PKCS_ECDSA_P256_SHA256, &["closed.example", "open.example"]);
    let mut yaml = secret("tests", "cert", &both);
    writeln!(yaml, "---\n{}", Authority::secret_of(authorities, "tests", "clients")).unwrap();
    let closed = if authorities.is_empty() { "" } else { "nodegate.dev/client-ca-secret: clients" };
    for (name, annotations) in [("closed", closed), ("open", "")] {
        let rules = manifest(&[(&format!("{name}.example"), "/", backend)]).replace("-0", &format!("-{name}"));
        let tls = format!("ingressClassName: nodegate\n  tls: [{{ secretName: cert, hosts: [{name}.example] }}]");
        let named = format!("name: ingress-{name}, namespace: tests");
        let rules =
            rules.replace("ingressClassName: nodegate", &tls).replace(&named, &format!("{named}, annotations: {{ {annotations} }}"));
        yaml.push_str(&rules);
    }
    yaml
}

fn https(settings: &mut Settings) {
    settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Whether a connection's first request is answered by the backend. In TLS 1.3 a client hears only behind its handshake that it isn't welcome.
fn is_served(client: &TlsClient, address: SocketAddr, host: &str) -> bool {
    let Ok(secured) = client.try_connect(address, Some(host)) else { return false };
    let mut wire: Wire = secured.wire;
    wire.try_send(get(host)).is_ok() && wire.rest().starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn only_clients_that_are_vouched_for_come_in() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let backend = Backend::start().serve_each(|_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            wire.message();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    let proxy = Proxy::with(&manifests(backend, &[&ours]), https);
    let address = proxy.addresses[1];
    let known = TlsClient::known_by(&ours.client("edge"), &[]);
    let mut secured = known.connect(address, Some("closed.example"));
    assert_eq!(secured.wire.exchange(get("closed.example")).text(), "ok");
    for (label, client) in [
        ("no certificate", TlsClient::offering(&[])),
        ("another authority's", TlsClient::known_by(&others.client("edge"), &[])),
        ("one that vouches for itself", TlsClient::known_by(&issue(&PKCS_ECDSA_P256_SHA256, &["edge"]), &[])),
    ] {
        assert!(!is_served(&client, address, "closed.example"), "{label}");
        let mut open = client.connect(address, Some("open.example"));
        assert_eq!(open.wire.exchange(get("open.example")).text(), "ok", "{label}: other hosts ask for none");
    }
}

#[test]
fn there_is_no_way_around_it() {
    let ours = Authority::new("ours");
    let backend = Backend::start().serve("ok");
    let mut proxy = Proxy::with(&manifests(backend, &[&ours]), https);
    let address = proxy.addresses[1];
    // Without TLS.
    proxy.get("closed.example", "/").assert_own(403, "denied");
    // On a connection for another host, whose certificate is the same.
    let stranger = TlsClient::offering(&["h2"]);
    let mut client = Http2::over(stranger.connect(address, Some("open.example")).wire);
    assert_eq!(client.get("https://open.example/").text(), "ok");
    client.get("https://closed.example/").assert_own(421, "misdirected");
    // Without naming one.
    let mut secured = TlsClient::offering(&[]).connect(address, None);
    secured.wire.exchange(get("closed.example")).assert_own(421, "misdirected");
    // With a session that was begun elsewhere.
    let resuming = TlsClient::offering(&[]);
    for _ in 0..2 {
        assert_eq!(resuming.connect(address, Some("open.example")).wire.exchange(get("open.example")).text(), "ok");
    }
    assert!(resuming.try_connect(address, Some("closed.example")).map_or(true, |mut secured| {
        let _ = secured.wire.try_send(get("closed.example"));
        !secured.wire.rest().starts_with(b"HTTP/1.1 200")
    }));
    // With a certificate that was good until a moment ago.
    let known = TlsClient::known_by(&ours.client("edge"), &[]);
    let mut secured = known.connect(address, Some("closed.example"));
    assert_eq!(secured.wire.exchange(get("closed.example")).text(), "ok");
    proxy.publish(&manifests(backend, &[&Authority::new("new")]));
    secured.wire.exchange(get("closed.example")).assert_own(421, "misdirected");
}

/// What cert-manager adds to an Ingress that it edits in place; and what is much the same, but leads to what the certificates protect.
#[test]
fn certificate_authorities_get_answers_to_their_challenges_and_nothing_else() {
    let ours = Authority::new("ours");
    let (backend, solver) = (Backend::start().serve("ok"), Backend::start().serve("solved"));
    let mut yaml = manifests(backend, &[&ours]);
    let mut paths = String::new();
    for (path, service, port) in [
        ("/.well-known/acme-challenge/solved", "solver", solver.port()),
        ("/.well-known/acme-challenge/own", "service-closed", backend.port()),
        ("/.well-known/acme-challenge/solver/more", "service-open", backend.port()),
    ] {
        let backend = format!("{{ service: {{ name: {service}, port: {{ number: {port} }} }} }}");
        write!(paths, "{{ path: {path}, pathType: ImplementationSpecific, backend: {backend} }}, ").unwrap();
    }
    yaml = yaml.replacen("paths: [", &format!("paths: [{paths}"), 1);
    let spec = format!("spec: {{ clusterIP: {}, ports: [{{ port: {} }}] }}", solver.ip(), solver.port());
    write!(yaml, "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: solver, namespace: tests }}\n{spec}\n").unwrap();
    let proxy = Proxy::with(&yaml, https);
    assert_eq!(proxy.get("closed.example", "/.well-known/acme-challenge/solved").text(), "solved");
    for (label, path) in [
        ("no challenge", "/"),
        ("another token, which the path / leads on", "/.well-known/acme-challenge/other"),
        ("a path for a challenge to what is protected", "/.well-known/acme-challenge/own"),
        ("below a challenge", "/.well-known/acme-challenge/solved/more"),
        ("not only a token", "/.well-known/acme-challenge/solver/more"),
        ("a way out", "/.well-known/acme-challenge/solved%2F..%2Fx"),
    ] {
        let answer = proxy.get("closed.example", path);
        assert_eq!((answer.status(), answer.head.field("x-nodegate-reason")), (403, Some("denied")), "{label}");
    }
    let post = "POST /.well-known/acme-challenge/solved HTTP/1.1\r\nHost: closed.example\r\nContent-Length: 0\r\n\r\n";
    proxy.exchange(post).assert_own(403, "denied");
    // With TLS there is a certificate to show.
    let mut secured = TlsClient::offering(&[]).connect(proxy.addresses[1], Some("open.example"));
    let request = get("closed.example").replace("/ HTTP", "/.well-known/acme-challenge/solved HTTP");
    secured.wire.exchange(request).assert_own(421, "misdirected");
}

#[test]
fn open_connections_go_on_while_their_certificates_are_good_enough() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let backend = Backend::start().serve_each(|_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            wire.message();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut proxy = Proxy::with(&manifests(backend, &[&old]), https);
    let address = proxy.addresses[1];
    let edge = old.client("edge");
    let mut http1 = TlsClient::known_by(&edge, &[]).connect(address, Some("closed.example")).wire;
    let mut http2 = Http2::over(TlsClient::known_by(&edge, &["h2"]).connect(address, Some("closed.example")).wire);
    // One that was never asked for a certificate.
    proxy.publish(&manifests(backend, &[]));
    let mut stranger = TlsClient::offering(&[]).connect(address, Some("closed.example")).wire;
    assert_eq!(stranger.exchange(get("closed.example")).text(), "ok");
    for (label, authorities) in
        [("as before", &[&old][..]), ("another one beside it", &[&new, &old]), ("none", &[]), ("both again", &[&old, &new]), ("none", &[])]
    {
        proxy.publish(&manifests(backend, authorities));
        assert_eq!(http1.exchange(get("closed.example")).text(), "ok", "{label}");
        assert_eq!(http2.get("https://closed.example/").text(), "ok", "{label}");
        // It is for another host, whoever asks for certificates.
        assert_eq!(stranger.exchange(get("open.example")).text(), "ok", "{label}");
    }
    // Those that aren't come in anew.
    proxy.publish(&manifests(backend, &[&new]));
    for wire in [&mut http1, &mut stranger] {
        let answer = wire.exchange(get("closed.example"));
        answer.assert_own(421, "misdirected");
        assert_eq!(answer.head.field("connection"), Some("close"));
        assert_eq!(wire.rest(), b"");
    }
    http2.get("https://closed.example/").assert_own(421, "misdirected");
    proxy.wait_for(|numbers| numbers.connections_open == 0);
    let mut wire = TlsClient::known_by(&new.client("edge"), &[]).connect(address, Some("closed.example")).wire;
    assert_eq!(wire.exchange(get("closed.example")).text(), "ok");
}

#[test]
fn without_its_authorities_nobody_comes_in() {
    let ours = Authority::new("ours");
    let backend = Backend::start().serve("ok");
    let yaml = manifests(backend, &[&ours]).replace("client-ca-secret: clients", "client-ca-secret: missing");
    let mut proxy = Proxy::without_table(https);
    let diagnostics = proxy.publish_despite(&yaml);
    assert_eq!(diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>(), ["unknown_secret"]);
    proxy.get("closed.example", "/").assert_own(503, "bad_backend");
    let mut secured = TlsClient::offering(&[]).connect(proxy.addresses[1], Some("closed.example"));
    secured.wire.exchange(get("closed.example")).assert_own(503, "bad_backend");
}
