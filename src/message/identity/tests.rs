//! Clients and schemes, honest and spoofed.

use super::*;

const CLOUDFLARE: &str = "104.16.0.1";
const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "198.51.100.1";

fn trust() -> Trust {
    Trust::parse(&["cloudflare".to_owned(), "10.0.0.0/8".to_owned()], None).unwrap()
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).fold(
        HeaderMap::new(),
        |mut map, (name, value)| {
            map.append(name, value);
            map
        },
    )
}

fn ask(peer: &str, tls: bool, lines: &[(&'static str, &str)]) -> Identity {
    let downstream = Downstream::new(peer.parse().unwrap(), tls, 80, &trust());
    identify(&downstream, &headers(lines), &trust())
}

#[test]
fn client_is_the_nearest_that_a_trusted_peer_vouches_for() {
    let many_trusted = format!("203.0.113.1{}", ", 10.0.0.2".repeat(limits::FORWARDED_FOR_ENTRIES));
    let just_enough = format!("203.0.113.1{}", ", 10.0.0.2".repeat(limits::FORWARDED_FOR_ENTRIES - 1));
    for (label, peer, lines, client) in [
        ("nothing sent", STRANGER, &[][..], STRANGER),
        ("mapped peer", "::ffff:198.51.100.1", &[], STRANGER),
        ("spoofed by a stranger", STRANGER, &[("x-forwarded-for", "203.0.113.1"), ("cf-connecting-ip", "203.0.113.2")], STRANGER),
        ("trusted without a word", PROXY, &[], PROXY),
        ("trusted", PROXY, &[("x-forwarded-for", "203.0.113.1")], "203.0.113.1"),
        ("spoofed before a trusted one", PROXY, &[("x-forwarded-for", "127.0.0.1, 203.0.113.1")], "203.0.113.1"),
        ("through two trusted ones", PROXY, &[("x-forwarded-for", "203.0.113.9, 203.0.113.1, 10.0.0.7")], "203.0.113.1"),
        ("through Cloudflare, then a trusted one", PROXY, &[("x-forwarded-for", "6.6.6.6, 203.0.113.1, 104.16.0.9")], "203.0.113.1"),
        ("two lines", PROXY, &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "203.0.113.1, 10.0.0.7")], "203.0.113.1"),
        ("walk goes on into the line before", PROXY, &[("x-forwarded-for", "203.0.113.1"), ("x-forwarded-for", "10.0.0.7")], "203.0.113.1"),
        ("all trusted", PROXY, &[("x-forwarded-for", "10.0.0.9, 10.0.0.8")], "10.0.0.9"),
        ("junk at the right end", PROXY, &[("x-forwarded-for", "203.0.113.1, unknown")], PROXY),
        ("junk behind a trusted one", PROXY, &[("x-forwarded-for", "203.0.113.1, _hidden, 10.0.0.7")], "10.0.0.7"),
        ("not text", PROXY, &[("x-forwarded-for", "203.0.113.1, é")], PROXY),
        ("empty elements", PROXY, &[("x-forwarded-for", "203.0.113.1, , ,")], "203.0.113.1"),
        ("empty", PROXY, &[("x-forwarded-for", "")], PROXY),
        ("port", PROXY, &[("x-forwarded-for", "203.0.113.1:4711")], "203.0.113.1"),
        ("IPv6", PROXY, &[("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
        ("IPv6 in brackets", PROXY, &[("x-forwarded-for", "[2001:db8::1]")], "2001:db8::1"),
        ("IPv6 with a port", PROXY, &[("x-forwarded-for", "[2001:db8::1]:443")], "2001:db8::1"),
        ("mapped", PROXY, &[("x-forwarded-for", "::ffff:203.0.113.1")], "203.0.113.1"),
        ("bad port", PROXY, &[("x-forwarded-for", "203.0.113.1:99999")], PROXY),
        ("signed port", PROXY, &[("x-forwarded-for", "[2001:db8::1]:+1")], PROXY),
        ("bracket left open", PROXY, &[("x-forwarded-for", "[2001:db8::1")], PROXY),
        ("IPv4 in brackets", PROXY, &[("x-forwarded-for", "[203.0.113.1]")], PROXY),
        ("as many entries as are read", PROXY, &[("x-forwarded-for", just_enough.as_str())], "203.0.113.1"),
        ("more entries than are read", PROXY, &[("x-forwarded-for", many_trusted.as_str())], "10.0.0.2"),
        ("CF header from a trusted one", PROXY, &[("cf-connecting-ip", "203.0.113.2")], PROXY),
        ("Cloudflare", CLOUDFLARE, &[("cf-connecting-ip", "203.0.113.2"), ("x-forwarded-for", "203.0.113.1")], "203.0.113.2"),
        ("Cloudflare, IPv6", CLOUDFLARE, &[("cf-connecting-ip", "2001:db8::2")], "2001:db8::2"),
        ("Cloudflare without its header", CLOUDFLARE, &[("x-forwarded-for", "6.6.6.6, 203.0.113.1")], "203.0.113.1"),
        ("Cloudflare with junk", CLOUDFLARE, &[("cf-connecting-ip", "a"), ("x-forwarded-for", "203.0.113.1")], "203.0.113.1"),
        ("Cloudflare with two", CLOUDFLARE, &[("cf-connecting-ip", "6.6.6.6"), ("cf-connecting-ip", "203.0.113.2")], CLOUDFLARE),
        ("Cloudflare without a word", CLOUDFLARE, &[], CLOUDFLARE),
    ] {
        assert_eq!(ask(peer, false, lines).client, client.parse::<IpAddr>().unwrap(), "{label}");
    }
}

#[test]
fn scheme_is_what_the_client_used() {
    use Scheme::{Http, Https};
    const VISITOR: &str = r#"{"scheme":"https"}"#;
    for (label, peer, tls, lines, scheme) in [
        ("plain", STRANGER, false, &[][..], Http),
        ("our TLS", STRANGER, true, &[], Https),
        ("our TLS before a trusted word", PROXY, true, &[("x-forwarded-proto", "http")], Https),
        ("spoofed", STRANGER, false, &[("x-forwarded-proto", "https"), ("cf-visitor", VISITOR)], Http),
        ("trusted", PROXY, false, &[("x-forwarded-proto", "https")], Https),
        ("trusted, http", PROXY, false, &[("x-forwarded-proto", "http")], Http),
        ("trusted, upper case", PROXY, false, &[("x-forwarded-proto", "HTTPS")], Https),
        ("trusted, WebSocket", PROXY, false, &[("x-forwarded-proto", "wss")], Https),
        ("trusted, list", PROXY, false, &[("x-forwarded-proto", "https, http")], Http),
        ("trusted, two lines", PROXY, false, &[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")], Https),
        ("trusted, junk", PROXY, false, &[("x-forwarded-proto", "gopher")], Http),
        ("visitor from a trusted one", PROXY, false, &[("cf-visitor", VISITOR)], Http),
        ("Flexible SSL", CLOUDFLARE, false, &[("cf-visitor", VISITOR)], Https),
        ("Flexible SSL, spaces", CLOUDFLARE, false, &[("cf-visitor", r#"{ "scheme" : "https" }"#)], Https),
        ("Flexible SSL, both", CLOUDFLARE, false, &[("x-forwarded-proto", "https"), ("cf-visitor", VISITOR)], Https),
        ("Cloudflare, http", CLOUDFLARE, false, &[("cf-visitor", r#"{"scheme":"http"}"#)], Http),
        ("Cloudflare, junk", CLOUDFLARE, false, &[("cf-visitor", r#"{"scheme":https}"#)], Http),
        ("Cloudflare, cut off", CLOUDFLARE, false, &[("cf-visitor", r#"{"scheme":"https"#)], Http),
        ("Cloudflare, two visitors", CLOUDFLARE, false, &[("cf-visitor", VISITOR), ("cf-visitor", VISITOR)], Http),
    ] {
        assert_eq!(ask(peer, tls, lines).scheme, scheme, "{label}");
    }
}

#[test]
fn peer_is_classified_once_per_connection() {
    for (peer, class) in [(STRANGER, Peer::Untrusted), (PROXY, Peer::Trusted), (CLOUDFLARE, Peer::Cloudflare)] {
        assert_eq!(ask(peer, false, &[]).peer, class);
    }
}

#[test]
fn an_address_is_written_as_the_library_writes_it() {
    for text in ["0.0.0.0", "10.42.0.255", "198.51.100.7", "255.255.255.255", "::1", "2001:db8::ff"] {
        assert_eq!(address_value(text.parse().unwrap()), text);
    }
}
