//! Trailers that may pass. A backend that merges them into the headers, as some do, must not learn from them what a header may not tell it.

use http::{
    HeaderMap, HeaderName,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, EXPECT, HOST, MAX_FORWARDS,
        RANGE, SET_COOKIE, TE, TRAILER,
    },
};

use super::{detach::detach, forwarded::names_client, hop_by_hop::HOP_BY_HOP};

/// What RFC 9110 section 6.5.1 rules out: framing, routing, authentication, request modifiers, and how the content is to be read.
const RULED_OUT: [HeaderName; 14] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    HOST,
    MAX_FORWARDS,
    RANGE,
    SET_COOKIE,
    TE,
    TRAILER,
];

/// Removes what may not stand in a trailer section, whoever sent it: whatever concerns one connection, RFC 9110 rules out, or says who the client is. What passes
/// is detached, since HTTP/2 may remember it.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let ruled_out: Vec<HeaderName> = trailers.keys().filter(|name| !may_pass(name)).cloned().collect();
    for name in ruled_out {
        trailers.remove(name);
    }
    detach(trailers);
}

fn may_pass(name: &HeaderName) -> bool {
    !names_client(name.as_str()) && !HOP_BY_HOP.contains(&name.as_str()) && !RULED_OUT.contains(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn trailers_say_nothing_that_a_header_decides() {
        for (name, passes) in [
            ("x-checksum", true),
            ("grpc-status", true),
            ("server-timing", true),
            ("x-forwarded-for", false),
            ("x_forwarded_for", false),
            ("x-forwarded-user", false),
            ("forwarded", false),
            ("x-real-ip", false),
            ("x_real-ip", false),
            ("x-request-id", false),
            ("cf-connecting-ip", false),
            ("true_client_ip", false),
            ("host", false),
            ("content-length", false),
            ("transfer-encoding", false),
            ("connection", false),
            ("authorization", false),
            ("set-cookie", false),
        ] {
            let mut trailers = HeaderMap::new();
            trailers.append(name, HeaderValue::from_static("a"));
            strip_trailers(&mut trailers);
            assert_eq!(trailers.contains_key(name), passes, "{name}");
        }
    }
}
