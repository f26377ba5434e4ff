//! `nodegate.dev/ssl-redirect` and `nodegate.dev/hsts`: who is sent to HTTPS, and who never is.

use std::net::SocketAddr;

use nodegate::{
    message::{IpSet, Trust},
    proxy::Settings,
};

use crate::support::{Backend, Proxy, TlsClient, manifest};

const ANNOTATIONS: &str = "annotations: { nodegate.dev/ssl-redirect: \"true\", nodegate.dev/hsts: \"max-age=300\" }";

fn strict(backend: SocketAddr, change: impl FnOnce(&mut Settings)) -> Proxy {
    let named = format!("name: ingress-0, namespace: tests, {ANNOTATIONS}");
    Proxy::with(&manifest(&[("", "/", backend)]).replace("name: ingress-0, namespace: tests", &named), change)
}

fn trusting(settings: &mut Settings, who: &str) {
    let loopback = ["127.0.0.0/8".parse().unwrap()];
    settings.trust = Trust::parse(&[who.to_owned()], Some(&loopback)).unwrap();
}

#[test]
fn plain_http_is_sent_to_https() {
    let proxy = strict(Backend::start().serve("ok"), |settings| trusting(settings, "private"));
    let mut client = proxy.connect();
    for (label, request, location) in [
        ("a page", "GET /cart?item=1 HTTP/1.1\r\nHost: shop.example\r\n\r\n", "https://shop.example/cart?item=1"),
        ("a form", "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n", "https://shop.example/"),
        ("with a port", "GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n", "https://shop.example/"),
        ("a path that is made simpler", "GET /a/../%7eb?x=%2F HTTP/1.1\r\nHost: a\r\n\r\n", "https://a/~b?x=%2F"),
        ("in absolute form", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", "https://b/x"),
        ("IPv6", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", "https://[2001:db8::1]/"),
        ("through a proxy that says so", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n", "https://a/"),
    ] {
        let answer = client.exchange(request);
        answer.assert_own(308, "https_only");
        assert_eq!((answer.head.field("location"), answer.head.field("strict-transport-security")), (Some(location), None), "{label}");
    }
    proxy.exchange("GET / HTTP/1.0\r\n\r\n").assert_own(400, "bad_request");
}

#[test]
fn https_and_challenges_are_served() {
    let backend = Backend::start().serve("ok");
    let proxy = strict(backend, |settings| {
        trusting(settings, "127.0.0.1");
        settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    });
    let get = |more: &str| proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n"));
    let behind = get("X-Forwarded-Proto: https\r\n");
    assert_eq!((behind.text(), behind.head.field("strict-transport-security")), ("ok", Some("max-age=300")));
    let mut secured = TlsClient::new().connect(proxy.addresses[1], Some("a")).wire;
    let secured = secured.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((secured.text(), secured.head.field("strict-transport-security")), ("ok", Some("max-age=300")));
    let challenge = proxy.get("a", "/.well-known/acme-challenge/token");
    assert_eq!((challenge.text(), challenge.head.field("strict-transport-security")), ("ok", None));
    proxy.get("a", "/.well-known/acme-challenges").assert_own(308, "https_only");
    proxy.get("a", "/.well-known/acme-challenge/../../secret").assert_own(308, "https_only");
}

#[test]
fn a_backend_s_own_policy_is_kept() {
    let backend = Backend::start();
    let proxy = strict(backend.address(), |settings| trusting(settings, "127.0.0.1"));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n");
    backend.answer("HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.message().head.all("strict-transport-security"), ["max-age=1"]);
}

/// Cloudflare in its mode Flexible: whatever scheme the visitor has come by, the origin is asked over plain HTTP. Follows redirects as a browser does.
fn visit(proxy: &Proxy, mut scheme: &'static str) -> (u16, usize) {
    for redirects in 0..20 {
        let answer = proxy.exchange(format!(
            "GET /x HTTP/1.1\r\nHost: shop.example\r\nCF-Connecting-IP: 198.51.100.7\r\nX-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: {scheme}\r\n\
             CF-Visitor: {{\"scheme\":\"{scheme}\"}}\r\nCDN-Loop: cloudflare\r\n\r\n"
        ));
        if answer.status() != 308 {
            return (answer.status(), redirects);
        }
        assert_eq!(answer.head.field("location"), Some("https://shop.example/x"));
        scheme = "https";
    }
    panic!("redirected for ever");
}

#[test]
fn no_setting_makes_a_loop_behind_flexible_ssl() {
    let backend = Backend::start().serve("ok");
    for who in ["none", "cloudflare", "127.0.0.1", "all", "private"] {
        for tls in [false, true] {
            let proxy = strict(backend, |settings| {
                trusting(settings, who);
                if tls {
                    settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
                }
            });
            assert_eq!(visit(&proxy, "https"), (200, 0), "{who}");
            assert_eq!(visit(&proxy, "http"), (200, 1), "{who}");
            // Whoever isn't trusted is told of.
            assert_eq!(proxy.numbers().redirects_withheld > 0, who == "none", "{who}");
        }
    }
}

#[test]
fn nobody_who_says_https_is_sent_there_once_more() {
    let proxy = strict(Backend::start().serve("ok"), |settings| settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))]);
    let claims = [
        "X-Forwarded-Proto: https",
        "X-Forwarded-Proto: https, http",
        "Forwarded: for=198.51.100.7;proto=https",
        "CloudFront-Forwarded-Proto: https",
        "X-Forwarded-Ssl: on",
        "Front-End-Https: on",
        "X-Forwarded-Scheme: https",
    ];
    for claim in claims {
        let answer = proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\n{claim}\r\n\r\n"));
        // It is believed for nothing else.
        assert_eq!((answer.text(), answer.head.field("strict-transport-security")), ("ok", None), "{claim}");
    }
    assert_eq!(proxy.numbers().redirects_withheld, claims.len() as u64);
    proxy.get("a", "/").assert_own(308, "https_only");
}

/// A load balancer that ends TLS and says so in no HTTP: by the port that its clients come to, or in an extension.
#[test]
fn whom_a_load_balancer_has_taken_in_over_https_is_not_redirected() {
    let proxy = strict(Backend::start().serve("ok"), |settings| {
        settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        settings.proxy_protocol = Some(IpSet::parse(&["127.0.0.1".to_owned()], None).unwrap());
    });
    let v2 = |port: u16, extensions: &[u8]| {
        let length = u8::try_from(12 + extensions.len()).unwrap();
        let fixed = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", &[length][..], &[198, 51, 100, 7, 192, 0, 2, 1, 0xdc, 4]].concat();
        [&fixed[..], &port.to_be_bytes(), extensions].concat()
    };
    for (label, header, redirected) in [
        ("version 1", b"PROXY TCP4 198.51.100.7 192.0.2.1 1 443\r\n".to_vec(), false),
        ("version 1, port of plain HTTP", b"PROXY TCP4 198.51.100.7 192.0.2.1 1 80\r\n".to_vec(), true),
        ("version 1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), true),
        ("version 2", v2(443, &[]), false),
        ("version 2, port of plain HTTP", v2(80, &[]), true),
        ("another port, with TLS", v2(8443, &[4, 0, 1, 0, 0x20, 0, 5, 1, 0, 0, 0, 0]), false),
        ("another port, without TLS", v2(8080, &[0x20, 0, 5, 0, 0, 0, 0, 0]), true),
        ("an extension that is cut off", v2(8443, &[0x20, 0, 5, 1]), true),
    ] {
        let mut wire = proxy.connect();
        wire.send(&header);
        let answer = wire.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(answer.status(), if redirected { 308 } else { 200 }, "{label}");
        assert_eq!(answer.head.field("strict-transport-security"), None, "{label}");
    }
}
