//! Headers that concern one connection only (RFC 9110 section 7.6.1), and which upgrades become a tunnel.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE},
};

/// Always removed. `Trailer` stays, since trailers pass; `Proxy-Authorization` and `Proxy-Authenticate` go, as with Go and Envoy: they are for
/// the next proxy, and that is us.
pub(super) const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
];

/// What `Connection` may not remove, by the beginning of the name: else a client could take away what others rely on (who it is, what
/// the body is, what may be cached).
const PROTECTED_PREFIXES: [&str; 11] = [
    "x-forwarded-",
    "cf-",
    "content-",
    "accept",
    "if-",
    "sec-",
    "access-control-",
    "x-real-ip",
    "x-request-id",
    "x-nodegate-",
    "x-original-",
];

/// The same, by the whole name.
const PROTECTED: [&str; 34] = [
    "age",
    "allow",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "true-client-ip",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// What a request asks its connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing; or `Upgrade` without `Connection: upgrade`, or in HTTP/1.0, which RFC 9110 section 7.8 says to ignore.
    None,
    /// A WebSocket tunnel (RFC 6455 section 4.1).
    WebSocket,
    /// Another protocol (h2c above all), or a WebSocket by something else than a GET without a body. It isn't upgraded: the request goes on as if it
    /// had not asked, which RFC 9110 section 7.8 allows.
    Refused,
}

/// Removes from a request what concerns the client's connection only, and what `Connection` names. `TE: trailers` is kept (gRPC).
///
/// Ask [`wants_upgrade`] and read the body's framing before; set our own headers afterwards.
pub fn strip_request(headers: &mut HeaderMap) {
    if strip(headers).has_te {
        if headers.get_all(TE).iter().flat_map(tokens).any(|coding| coding.eq_ignore_ascii_case(b"trailers")) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
}

/// Removes from a response what concerns the backend's connection only, and what `Connection` names.
pub fn strip_response(headers: &mut HeaderMap) {
    if strip(headers).has_te {
        headers.remove(TE);
    }
}

/// What a request asks its connection to become; `headers` are those received, before [`strip_request`].
pub fn wants_upgrade(method: &Method, version: Version, headers: &HeaderMap) -> Upgrade {
    let asked = version == Version::HTTP_11 && names(headers, &CONNECTION, b"upgrade") && headers.contains_key(UPGRADE);
    if !asked {
        return Upgrade::None;
    }
    // A body would have to end before the tunnel begins; backends disagree on where, and what one takes for body another takes for frames.
    let no_body = !headers.contains_key(TRANSFER_ENCODING) && headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    if method == Method::GET && no_body && names(headers, &UPGRADE, b"websocket") { Upgrade::WebSocket } else { Upgrade::Refused }
}

/// Asks a backend, or grants a client, a WebSocket: after [`strip_request`] or [`strip_response`].
pub fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// What of interest there is among the names of a message.
#[derive(Default)]
struct Present {
    /// By their place in [`HOP_BY_HOP`].
    hop_by_hop: [bool; HOP_BY_HOP.len()],
    has_te: bool,
}

impl Present {
    /// One look at each name: a message has few, and searching the map for each of ours costs several times as much.
    fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys().map(HeaderName::as_str) {
            present.has_te |= name == "te";
            for (here, one) in present.hop_by_hop.iter_mut().zip(HOP_BY_HOP) {
                *here |= name == one;
            }
        }
        present
    }

    fn hop_by_hop(&self) -> impl Iterator<Item = &'static str> {
        HOP_BY_HOP.into_iter().zip(self.hop_by_hop).filter_map(|(name, here)| here.then_some(name))
    }
}

fn strip(headers: &mut HeaderMap) -> Present {
    let present = Present::of(headers);
    if present.hop_by_hop().any(|name| name == CONNECTION) {
        // Nearly always `keep-alive`, `close` or `upgrade`, for which nothing is allocated.
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter(|token| may_remove(token))
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in present.hop_by_hop() {
        headers.remove(name);
    }
    present
}

fn may_remove(token: &[u8]) -> bool {
    let is = |name: &&str| token.eq_ignore_ascii_case(name.as_bytes());
    let begins = |prefix: &&str| token.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    let removed_anyway = ["close", "keep-alive", "upgrade", "http2-settings"];
    !token.is_empty() && !removed_anyway.iter().any(&is) && !PROTECTED.iter().any(is) && !PROTECTED_PREFIXES.iter().any(begins)
}

fn names(headers: &HeaderMap, header: &HeaderName, token: &[u8]) -> bool {
    headers.get_all(header).iter().flat_map(tokens).any(|one| one.eq_ignore_ascii_case(token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn left(map: &HeaderMap) -> Vec<(&str, &str)> {
        let mut left: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn hop_by_hop_headers_are_removed_in_both_directions() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "proxy-authorization",
            "proxy-authenticate",
            "te",
        ] {
            for strip in [strip_request, strip_response] {
                let mut map = headers(&[(name, "x"), (name, "y"), ("trailer", "z"), ("accept", "*/*")]);
                strip(&mut map);
                assert_eq!(left(&map), [("accept", "*/*"), ("trailer", "z")], "{name}");
            }
        }
    }

    #[test]
    fn connection_removes_what_it_names() {
        for (label, connection, expected) in [
            ("one", &["x-a"][..], &["x-b", "x-c"][..]),
            ("list", &["x-a, X-B"], &["x-c"]),
            ("among others", &["keep-alive,x-a ,\tclose"], &["x-b", "x-c"]),
            ("two lines", &["x-a", "x-c"], &["x-b"]),
            ("empty elements and junk", &[", ,x a,(,x-c,"], &["x-a", "x-b"]),
            ("unknown", &["x-d"], &["x-a", "x-b", "x-c"]),
        ] {
            for strip in [strip_request, strip_response] {
                let mut map = headers(&[("x-a", "1"), ("x-b", "1"), ("x-c", "1"), ("x-c", "2")]);
                for value in connection {
                    map.append(CONNECTION, HeaderValue::from_static(value));
                }
                strip(&mut map);
                let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
                names.sort_unstable();
                assert_eq!(names, expected, "{label}");
            }
        }
    }

    #[test]
    fn connection_may_not_remove_what_others_rely_on() {
        for name in [
            "host",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-anything",
            "x-real-ip",
            "x-request-id",
            "cf-connecting-ip",
            "cf-visitor",
            "cf-ipcountry",
            "true-client-ip",
            "content-length",
            "content-type",
            "content-encoding",
            "authorization",
            "cookie",
            "set-cookie",
            "cache-control",
            "accept",
            "accept-encoding",
            "range",
            "if-match",
            "origin",
            "sec-websocket-key",
            "access-control-allow-origin",
            "www-authenticate",
            "location",
            "vary",
            "trailer",
        ] {
            for strip in [strip_request, strip_response] {
                let mut map = headers(&[(name, "1")]);
                map.insert(CONNECTION, HeaderValue::from_str(&format!("close, {}", name.to_ascii_uppercase())).unwrap());
                strip(&mut map);
                assert_eq!(left(&map), [(name, "1")], "{name}");
            }
        }
    }

    #[test]
    fn te_trailers_is_kept_and_nothing_else_of_it() {
        for (sent, kept) in [
            (&["trailers"][..], &["trailers"][..]),
            (&["gzip;q=0.5, Trailers"], &["trailers"]),
            (&["gzip", "trailers"], &["trailers"]),
            (&["gzip"], &[]),
            (&["trailersx"], &[]),
        ] {
            let mut map = headers(&[("connection", "te, close")]);
            for value in sent {
                map.append(TE, HeaderValue::from_static(value));
            }
            strip_request(&mut map);
            assert_eq!(map.get_all(TE).iter().collect::<Vec<_>>(), kept, "{sent:?}");
        }
    }

    #[test]
    fn only_a_websocket_get_over_http_1_1_is_upgraded() {
        use Upgrade::{None, Refused, WebSocket};
        const ASKED: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "websocket")];
        for (label, method, version, lines, expected) in [
            ("plain", Method::GET, Version::HTTP_11, &[][..], None),
            ("keep-alive", Method::GET, Version::HTTP_11, &[("connection", "keep-alive")], None),
            ("websocket", Method::GET, Version::HTTP_11, &ASKED, WebSocket),
            (
                "as Firefox asks",
                Method::GET,
                Version::HTTP_11,
                &[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")],
                WebSocket,
            ),
            ("two lines", Method::GET, Version::HTTP_11, &[("connection", "close"), ASKED[0], ("upgrade", "foo"), ASKED[1]], WebSocket),
            ("list", Method::GET, Version::HTTP_11, &[ASKED[0], ("upgrade", "h2c, websocket")], WebSocket),
            ("no body, said aloud", Method::GET, Version::HTTP_11, &[ASKED[0], ASKED[1], ("content-length", "0")], WebSocket),
            ("Upgrade alone", Method::GET, Version::HTTP_11, &[ASKED[1]], None),
            ("Connection alone", Method::GET, Version::HTTP_11, &[ASKED[0]], None),
            ("Connection names something alike", Method::GET, Version::HTTP_11, &[("connection", "upgrade-insecure"), ASKED[1]], None),
            ("HTTP/1.0", Method::GET, Version::HTTP_10, &ASKED, None),
            ("HTTP/2", Method::GET, Version::HTTP_2, &ASKED, None),
            ("POST", Method::POST, Version::HTTP_11, &ASKED, Refused),
            ("body", Method::GET, Version::HTTP_11, &[ASKED[0], ASKED[1], ("content-length", "5")], Refused),
            ("chunked body", Method::GET, Version::HTTP_11, &[ASKED[0], ASKED[1], ("transfer-encoding", "chunked")], Refused),
            ("h2c", Method::GET, Version::HTTP_11, &[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")], Refused),
            ("TLS", Method::GET, Version::HTTP_11, &[ASKED[0], ("upgrade", "TLS/1.0")], Refused),
        ] {
            assert_eq!(wants_upgrade(&method, version, &headers(lines)), expected, "{label}");
        }
    }

    #[test]
    fn a_tunnel_is_asked_for_in_our_own_words() {
        let mut map =
            headers(&[("connection", "keep-alive, Upgrade, x-a"), ("upgrade", "h2c, websocket"), ("x-a", "1"), ("sec-websocket-key", "k")]);
        strip_request(&mut map);
        set_websocket(&mut map);
        assert_eq!(left(&map), [("connection", "upgrade"), ("sec-websocket-key", "k"), ("upgrade", "websocket")]);
    }
}
