//! Authorities, good and bad, for each version of HTTP.

use proptest::prelude::*;

use super::*;

fn request(uri: &str, hosts: &[&[u8]]) -> (Uri, HeaderMap) {
    let mut headers = HeaderMap::new();
    for host in hosts {
        headers.append(HOST, HeaderValue::from_bytes(host).unwrap());
    }
    (uri.parse().unwrap(), headers)
}

fn ask(version: Version, uri: &str, hosts: &[&str]) -> Result<Authority, BadAuthority> {
    let hosts: Vec<&[u8]> = hosts.iter().map(|host| host.as_bytes()).collect();
    let (uri, headers) = request(uri, &hosts);
    authority(version, &uri, &headers)
}

#[test]
fn host_is_canonical_and_the_header_stays_as_sent() {
    for (sent, host, port) in [
        ("example.com", "example.com", None),
        ("example.com:8080", "example.com", Some(8080)),
        ("example.com:", "example.com", None),
        ("example.com:00080", "example.com", Some(80)),
        ("example.com:65535", "example.com", Some(65535)),
        ("EXAMPLE.Com", "example.com", None),
        ("example.com.", "example.com", None),
        ("Example.com.:81", "example.com", Some(81)),
        ("under_score.example", "under_score.example", None),
        ("localhost", "localhost", None),
        ("127.0.0.1:9", "127.0.0.1", Some(9)),
        ("[::1]", "[::1]", None),
        ("[::1]:8080", "[::1]", Some(8080)),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]", None),
        ("bücher.example", "xn--bcher-kva.example", None),
        ("BÜCHER.example.:80", "xn--bcher-kva.example", Some(80)),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example", None),
    ] {
        let authority = ask(Version::HTTP_11, "/", &[sent]).unwrap_or_else(|error| panic!("{sent}: {error}"));
        assert_eq!((authority.host(), authority.port()), (host, port), "{sent}");
        assert_eq!(authority.header().as_bytes(), sent.as_bytes(), "{sent}");
    }
}

#[test]
fn canonical_host_is_taken_from_the_header_without_a_copy() {
    for sent in ["example.com", "example.com:8080", "example.com.", "[::1]:1"] {
        assert!(matches!(ask(Version::HTTP_11, "/", &[sent]).unwrap().host, Canonical::Prefix(_)), "{sent}");
    }
    assert!(matches!(canonical_host("a.example"), Ok(Cow::Borrowed("a.example"))));
    assert_eq!(canonical_host("Ä.example.").unwrap(), "xn--4ca.example");
}

#[test]
fn invalid_host_is_refused() {
    use BadAuthority::{Empty, Host, Port};
    let long_label = "a".repeat(64);
    let long_name = vec!["a"; 128].join(".");
    for (sent, error) in [
        ("", Empty),
        (":80", Empty),
        (":abc", Port),
        (".", Host),
        ("a..b", Host),
        ("a..", Host),
        (".a", Host),
        ("a b", Host),
        ("a\tb", Host),
        ("a/x", Host),
        ("a\\x", Host),
        ("a?x", Host),
        ("a#x", Host),
        ("u@a", Host),
        ("u:p@a", Port),
        ("a,b", Host),
        ("a%41", Host),
        ("*.a", Host),
        ("a:abc", Port),
        ("a:80:80", Port),
        ("a:+80", Port),
        ("a:-1", Port),
        ("a:65536", Port),
        ("a:0", Port),
        ("a:99999999999999999999", Port),
        ("::1", Port),
        ("[::1", Host),
        ("[::1]x", Host),
        ("[]", Host),
        ("[a]", Host),
        ("[127.0.0.1]", Host),
        ("[fe80::1%25eth0]", Host),
        ("a\u{ff1a}80", Host), // a full-width colon, which IDNA maps to an ASCII one
        ("a\u{ff0f}b", Host),
        ("\u{3002}", Host),
        (long_label.as_str(), Host),
        (long_name.as_str(), Host),
    ] {
        assert_eq!(ask(Version::HTTP_11, "/", &[sent]), Err(error), "{sent:?}");
    }
    let (uri, headers) = request("/", &[b"a\xffb"]);
    assert_eq!(authority(Version::HTTP_11, &uri, &headers), Err(Host), "not UTF-8");
}

#[test]
fn http_1_needs_exactly_one_host() {
    use BadAuthority::{Empty, Missing, Several};
    for (label, version, hosts, expected) in [
        ("1.1 without", Version::HTTP_11, &[][..], Err(Missing)),
        ("1.1 with one", Version::HTTP_11, &["a"], Ok("a")),
        ("1.1 with two", Version::HTTP_11, &["a", "b"], Err(Several)),
        ("1.1 with the same twice", Version::HTTP_11, &["a", "a"], Err(Several)),
        ("1.1 with an empty one", Version::HTTP_11, &[""], Err(Empty)),
        ("1.0 without", Version::HTTP_10, &[], Ok("")),
        ("1.0 with one", Version::HTTP_10, &["a"], Ok("a")),
        ("1.0 with two", Version::HTTP_10, &["a", "b"], Err(Several)),
        ("1.0 with an empty one", Version::HTTP_10, &[""], Err(Empty)),
    ] {
        let answer = ask(version, "/", hosts);
        assert_eq!(answer.as_ref().map(Authority::host).map_err(|error| *error), expected, "{label}");
    }
}

#[test]
fn absolute_form_wins_over_host_and_replaces_it() {
    use BadAuthority::{Host, Missing, Scheme, Several};
    for (label, uri, hosts, expected) in [
        ("differs", "http://Uri.example:81/x", &["host.example"][..], Ok(("uri.example", "Uri.example:81"))),
        ("equal", "http://a.example/", &["a.example"], Ok(("a.example", "a.example"))),
        ("https", "HTTPS://a.example/", &["b.example"], Ok(("a.example", "a.example"))),
        ("no Host", "http://a.example/", &[], Err(Missing)),
        ("two Hosts", "http://a.example/", &["a.example", "a.example"], Err(Several)),
        ("invalid Host", "http://a.example/", &["a b"], Err(Host)),
        ("userinfo", "http://u@a.example/", &["a.example"], Err(Host)),
        ("other scheme", "ftp://a.example/", &["a.example"], Err(Scheme)),
    ] {
        let (uri, mut headers) = request(uri, &hosts.iter().map(|host| host.as_bytes()).collect::<Vec<_>>());
        let answer = authority(Version::HTTP_11, &uri, &headers);
        let expected_host = expected.map(|(host, _)| host);
        assert_eq!(answer.as_ref().map(Authority::host).map_err(|error| *error), expected_host, "{label}");
        if let (Ok(answer), Ok((_, header))) = (answer, expected) {
            answer.set_host(&mut headers);
            assert_eq!(headers.get_all(HOST).iter().collect::<Vec<_>>(), [header], "{label}");
        }
    }
}

#[test]
fn host_stays_untouched_in_origin_form() {
    let (uri, mut headers) = request("/x", &[b"A.example."]);
    authority(Version::HTTP_11, &uri, &headers).unwrap().set_host(&mut headers);
    assert_eq!(headers[HOST], "A.example.");
}

#[test]
fn http_2_authority_and_host_must_agree() {
    use BadAuthority::{Differs, Host, Missing, Several};
    for (label, uri, hosts, expected) in [
        ("authority alone", "https://a.example/", &[][..], Ok("a.example")),
        ("host alone", "/", &["a.example"], Ok("a.example")),
        ("neither", "/", &[], Err(Missing)),
        ("equal", "https://a.example/", &["a.example"], Ok("a.example")),
        ("equal but for case and dot", "https://a.example/", &["A.Example."], Ok("a.example")),
        ("another host", "https://a.example/", &["b.example"], Err(Differs)),
        ("another port", "https://a.example/", &["a.example:444"], Err(Differs)),
        ("invalid host", "https://a.example/", &["u@a.example"], Err(Host)),
        ("two hosts", "https://a.example/", &["a.example", "a.example"], Err(Several)),
    ] {
        for version in [Version::HTTP_2, Version::HTTP_3] {
            let answer = ask(version, uri, hosts);
            assert_eq!(answer.as_ref().map(Authority::host).map_err(|error| *error), expected, "{label}, {version:?}");
        }
    }
}

proptest! {
    #[test]
    fn canonical_form_is_a_fixed_point(host in "[a-zA-Z0-9._:\\[\\]äÖß。％-]{0,24}") {
        if let Ok(once) = canonical_host(&host) {
            prop_assert_eq!(canonical_host(&once).map(Cow::into_owned), Ok(once.clone().into_owned()));
            prop_assert!(!once.ends_with('.') && once.is_ascii() && !once.bytes().any(|byte| byte.is_ascii_uppercase()));
        }
    }

    #[test]
    fn nothing_panics(host in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = HeaderValue::from_bytes(&host) {
            let _ = Authority::parse(value, false).map(|authority| authority.host().len());
        }
    }
}
