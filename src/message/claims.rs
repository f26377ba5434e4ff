//! What says that a request came over HTTPS to whoever passed it on, on anybody's word: enough not to send it there once more, and for nothing else.

use http::HeaderMap;

use super::identity::{Downstream, Scheme, cf_visitor, scheme};

/// Fields in which proxies tell a scheme: everybody's, ingress-nginx's, Amazon CloudFront's, and older customs.
const SCHEMES: [&str; 6] =
    ["x-forwarded-proto", "x-forwarded-scheme", "x-scheme", "cloudfront-forwarded-proto", "x-forwarded-protocol", "x-url-scheme"];
/// Fields in which they say that there was TLS, and how: the last two are Microsoft's and Fastly's.
const SWITCHES: [(&str, &str); 3] = [("x-forwarded-ssl", "on"), ("front-end-https", "on"), ("fastly-ssl", "1")];

/// Whether a request says that it came over HTTPS to any of those who passed it on, or its connection does.
pub fn claims_https(downstream: &Downstream, headers: &HeaderMap) -> bool {
    let is_https = |text: &str| scheme(text) == Some(Scheme::Https);
    downstream.claims_tls
        || SCHEMES.iter().any(|name| elements(headers, name, &[',']).any(is_https))
        || SWITCHES.iter().any(|(name, on)| elements(headers, name, &[',']).any(|element| element.eq_ignore_ascii_case(on)))
        || elements(headers, "forwarded", &[',', ';']).filter_map(forwarded_scheme).any(is_https)
        || cf_visitor(headers) == Some(Scheme::Https)
}

/// The parts of all lines of a field: of a chain of proxies each may have added one.
fn elements<'h>(headers: &'h HeaderMap, name: &str, separators: &'static [char]) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(move |line| line.split(separators)).map(str::trim)
}

/// `proto=https` or `proto="https"` (RFC 7239 section 5.4).
fn forwarded_scheme(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=')?;
    name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::{super::peers::Trust, *};

    #[test]
    fn whatever_proxies_say_of_https_is_a_claim() {
        let trust = Trust::parse(&[], None).unwrap();
        let plain = Downstream::new([198, 51, 100, 1].into(), false, 80, &trust);
        for (line, claimed) in [
            ("x-forwarded-proto: https", true),
            ("x-forwarded-proto: HTTPS", true),
            ("x-forwarded-proto: wss", true),
            ("x-forwarded-proto: https, http", true),
            ("x-forwarded-proto: http,https", true),
            ("x-forwarded-proto: http", false),
            ("x-forwarded-proto: httpsx", false),
            ("x-forwarded-protocol: https", true),
            ("x-forwarded-scheme: https", true),
            ("x-scheme: https", true),
            ("x-url-scheme: https", true),
            ("cloudfront-forwarded-proto: https", true),
            ("cloudfront-forwarded-proto: http", false),
            ("x-forwarded-ssl: on", true),
            ("x-forwarded-ssl: On", true),
            ("x-forwarded-ssl: off", false),
            ("front-end-https: on", true),
            ("front-end-https: off", false),
            ("fastly-ssl: 1", true),
            ("forwarded: for=192.0.2.1;proto=https;by=203.0.113.43", true),
            ("forwarded: for=192.0.2.1; Proto=\"https\"", true),
            ("forwarded: proto=https, for=10.0.0.1;proto=http", true),
            ("forwarded: for=192.0.2.1;proto=http", false),
            ("forwarded: host=https", false),
            ("cf-visitor: {\"scheme\":\"https\"}", true),
            ("cf-visitor: {\"scheme\":\"http\"}", false),
            ("x-other: https", false),
        ] {
            let (name, value) = line.split_once(": ").unwrap();
            let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
            let mut headers = HeaderMap::from_iter([(name.clone(), value)]);
            assert_eq!(claims_https(&plain, &headers), claimed, "{line}");
            headers.insert(name, HeaderValue::from_bytes(b"\xc3\xa9").unwrap());
            assert!(!claims_https(&plain, &headers));
        }
        let passed_on = plain.for_peer([203, 0, 113, 1].into(), true, &trust);
        assert!(claims_https(&passed_on, &HeaderMap::new()) && !passed_on.has_tls());
        assert!(!claims_https(&plain.for_peer([203, 0, 113, 1].into(), false, &trust), &HeaderMap::new()));
    }
}
