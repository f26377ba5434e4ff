//! What each kind of peer may say, and what the backend gets.

use http::{Uri, Version, header::HOST};

use super::*;
use crate::message::{Trust, authority, identify, strip_request};

const CLOUDFLARE: &str = "104.16.0.1";
const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "198.51.100.1";

type Lines = &'static [(&'static str, &'static str)];

struct Case {
    label: &'static str,
    peer: &'static str,
    tls: bool,
    port: u16,
    sent: Lines,
    /// Beside `Host`, sorted by name.
    got: Lines,
}

fn forward(peer: &str, tls: bool, port: u16, sent: Lines) -> HeaderMap {
    let trust = Trust::parse(&["cloudflare".to_owned(), "10.0.0.0/8".to_owned()], None).unwrap();
    let downstream = Downstream::new(peer.parse().unwrap(), tls, port, &trust);
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("Shop.example:8080"));
    for (name, value) in sent {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let authority = authority(Version::HTTP_11, &Uri::from_static("/"), &headers).unwrap();
    let identity = identify(&downstream, &headers, &trust);
    strip_request(&mut headers);
    set_forwarded(&mut headers, &downstream, &identity, &authority);
    headers
}

fn check(case: &Case) {
    let mut headers = forward(case.peer, case.tls, case.port, case.sent);
    assert_eq!(headers.remove(HOST).unwrap(), "Shop.example:8080", "{}: Host is what the client sent", case.label);
    let mut got: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    got.sort_unstable();
    assert_eq!(got, case.got, "{}", case.label);
}

/// What a backend gets from a client without any proxy.
const PLAIN: Lines = &[
    ("x-forwarded-for", STRANGER),
    ("x-forwarded-host", "Shop.example:8080"),
    ("x-forwarded-port", "8080"),
    ("x-forwarded-proto", "http"),
    ("x-real-ip", STRANGER),
];

#[test]
fn untrusted_peer_is_not_believed_anything() {
    let plain = |label, sent| Case { label, peer: STRANGER, tls: false, port: 8080, sent, got: PLAIN };
    for case in [
        plain("nothing sent", &[]),
        plain(
            "everything spoofed",
            &[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-for", "7.7.7.7"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil.example"),
                ("x-forwarded-port", "1"),
                ("x-real-ip", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("x-forwarded-prefix", "/evil"),
                ("x-forwarded-ssl", "on"),
                ("cf-connecting-ip", "6.6.6.6"),
                ("cf-visitor", r#"{"scheme":"https"}"#),
                ("cf-ipcountry", "XX"),
                ("cf-ray", "1"),
                ("true-client-ip", "6.6.6.6"),
            ],
        ),
        plain("Connection may not remove ours", &[("connection", "x-forwarded-for, x-real-ip, x-forwarded-proto, x-forwarded-host")]),
        Case {
            label: "TLS on our socket",
            tls: true,
            port: 443,
            got: &[
                ("x-forwarded-for", STRANGER),
                ("x-forwarded-host", "Shop.example:8080"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", STRANGER),
            ],
            ..plain("", &[])
        },
        Case {
            label: "other headers pass",
            got: &[
                ("cfx", "1"),
                ("cookie", "a=b"),
                ("from", "me"),
                ("x-custom", "1"),
                ("x-forwarded-for", STRANGER),
                ("x-forwarded-host", "Shop.example:8080"),
                ("x-forwarded-port", "8080"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", STRANGER),
                ("x_custom", "1"),
            ],
            ..plain("", &[("cookie", "a=b"), ("x-custom", "1"), ("x_custom", "1"), ("cfx", "1"), ("from", "me")])
        },
    ] {
        check(&case);
    }
    check(&Case { peer: "::ffff:198.51.100.1", ..plain("peer on a dual-stack socket", &[]) });
}

#[test]
fn spellings_with_underscores_are_dropped_whoever_sent_them() {
    const SPELLINGS: [&str; 10] = [
        "x_forwarded_for",
        "x-forwarded_for",
        "x_forwarded-proto",
        "x_forwarded_host",
        "x_forwarded_anything",
        "x_real_ip",
        "x-real_ip",
        "x_request_id",
        "cf_connecting_ip",
        "true-client_ip",
    ];
    for peer in [STRANGER, PROXY, CLOUDFLARE] {
        for spelling in SPELLINGS {
            let sent: Lines = Box::leak(Box::new([(spelling, "6.6.6.6")]));
            let headers = forward(peer, false, 80, sent);
            assert!(!headers.contains_key(spelling), "{spelling} from {peer}");
            assert_eq!(headers["x-forwarded-for"], peer, "{spelling} from {peer}");
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one table")]
#[test]
fn trusted_peer_is_believed_and_appended() {
    let case = |label, sent, got| Case { label, peer: PROXY, tls: false, port: 8080, sent, got };
    for case in [
        case(
            "says nothing",
            &[],
            &[
                ("x-forwarded-for", PROXY),
                ("x-forwarded-host", "Shop.example:8080"),
                ("x-forwarded-port", "8080"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", PROXY),
            ],
        ),
        case(
            "says everything",
            &[
                ("x-forwarded-for", "203.0.113.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "public.example"),
                ("x-forwarded-port", "8443"),
                ("x-forwarded-prefix", "/app"),
                ("x-real-ip", "203.0.113.1"),
                ("forwarded", "for=203.0.113.1"),
            ],
            &[
                ("forwarded", "for=203.0.113.1"),
                ("x-forwarded-for", "203.0.113.1, 10.0.0.1"),
                ("x-forwarded-host", "public.example"),
                ("x-forwarded-port", "8443"),
                ("x-forwarded-prefix", "/app"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "203.0.113.1"),
            ],
        ),
        case(
            "duplicates: For is joined, of the others the last line stays; there is one client",
            &[
                ("x-forwarded-for", "6.6.6.6, 203.0.113.1"),
                ("x-forwarded-for", ""),
                ("x-forwarded-for", "10.0.0.9"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "a.example"),
                ("x-forwarded-host", "b.example"),
                ("x-real-ip", "6.6.6.6"),
                ("x-real-ip", "7.7.7.7"),
            ],
            &[
                ("x-forwarded-for", "6.6.6.6, 203.0.113.1, 10.0.0.9, 10.0.0.1"),
                ("x-forwarded-host", "b.example"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "203.0.113.1"),
            ],
        ),
        case(
            "junk is replaced",
            &[("x-forwarded-proto", "gopher"), ("x-forwarded-host", ""), ("x-forwarded-port", "")],
            &[
                ("x-forwarded-for", PROXY),
                ("x-forwarded-host", "Shop.example:8080"),
                ("x-forwarded-port", "8080"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", PROXY),
            ],
        ),
        case(
            "may not name the visitor for Cloudflare",
            &[
                ("cf-connecting-ip", "6.6.6.6"),
                ("cf-visitor", r#"{"scheme":"https"}"#),
                ("cf-ipcountry", "XX"),
                ("true-client-ip", "6.6.6.6"),
                ("cf-access-jwt-assertion", "signed"),
            ],
            &[
                ("cf-access-jwt-assertion", "signed"),
                ("x-forwarded-for", PROXY),
                ("x-forwarded-host", "Shop.example:8080"),
                ("x-forwarded-port", "8080"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", PROXY),
            ],
        ),
    ] {
        check(&case);
    }
}

#[test]
fn cloudflare_is_believed_what_it_writes_itself() {
    let case = |label, sent, got| Case { label, peer: CLOUDFLARE, tls: false, port: 80, sent, got };
    for case in [
        case(
            "Flexible SSL, and a visitor who spoofs what Cloudflare passes",
            &[
                ("cf-connecting-ip", "203.0.113.2"),
                ("cf-visitor", r#"{"scheme":"https"}"#),
                ("cf-ipcountry", "DE"),
                ("cf-ray", "1"),
                ("true-client-ip", "203.0.113.2"),
                ("x-forwarded-for", "6.6.6.6,203.0.113.2"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil.example"),
                ("x-forwarded-port", "1"),
                ("x-forwarded-prefix", "/evil"),
                ("forwarded", "for=6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
            ],
            &[
                ("cf-connecting-ip", "203.0.113.2"),
                ("cf-ipcountry", "DE"),
                ("cf-ray", "1"),
                ("cf-visitor", r#"{"scheme":"https"}"#),
                ("true-client-ip", "203.0.113.2"),
                ("x-forwarded-for", "6.6.6.6,203.0.113.2, 104.16.0.1"),
                ("x-forwarded-host", "Shop.example:8080"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "203.0.113.2"),
            ],
        ),
        case(
            "a header that is there twice is nobody's",
            &[("cf-connecting-ip", "6.6.6.6"), ("cf-connecting-ip", "203.0.113.2")],
            &[
                ("x-forwarded-for", CLOUDFLARE),
                ("x-forwarded-host", "Shop.example:8080"),
                ("x-forwarded-port", "80"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", CLOUDFLARE),
            ],
        ),
    ] {
        check(&case);
    }
}

#[test]
fn request_without_a_host_has_no_forwarded_host() {
    let trust = Trust::default();
    let downstream = Downstream::new(STRANGER.parse().unwrap(), false, 80, &trust);
    let mut headers = HeaderMap::new();
    headers.insert(X_FORWARDED_HOST, HeaderValue::from_static("evil.example"));
    let authority = authority(Version::HTTP_10, &Uri::from_static("/"), &headers).unwrap();
    let identity = identify(&downstream, &headers, &trust);
    set_forwarded(&mut headers, &downstream, &identity, &authority);
    assert!(!headers.contains_key(X_FORWARDED_HOST));
}

#[test]
fn request_id_is_kept_from_a_trusted_peer_only() {
    let longest = "x".repeat(limits::REQUEST_ID_BYTES);
    let too_long = "x".repeat(limits::REQUEST_ID_BYTES + 1);
    for (label, peer, sent, id) in [
        ("none", Peer::Trusted, &[][..], "made"),
        ("untrusted", Peer::Untrusted, &["theirs"], "made"),
        ("trusted", Peer::Trusted, &["theirs"], "theirs"),
        ("Cloudflare", Peer::Cloudflare, &["theirs"], "theirs"),
        ("two", Peer::Trusted, &["one", "two"], "made"),
        ("empty", Peer::Trusted, &[""], "made"),
        ("space", Peer::Trusted, &["a b"], "made"),
        ("not ASCII", Peer::Trusted, &["é"], "made"),
        ("longest", Peer::Trusted, &[longest.as_str()], longest.as_str()),
        ("too long", Peer::Trusted, &[too_long.as_str()], "made"),
    ] {
        let mut headers = HeaderMap::new();
        for value in sent {
            headers.append(X_REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let returned = set_request_id(&mut headers, peer, || HeaderValue::from_static("made"));
        assert_eq!(returned, id, "{label}");
        assert_eq!(headers.get_all(X_REQUEST_ID).iter().collect::<Vec<_>>(), [id], "{label}");
    }
}
