//! Which header fields reach the backend, which reach the client, and who is believed about the client.

use nodegate::{message::Trust, proxy::Settings};

use crate::support::{Backend, Head, Proxy};

const OK: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

struct Pair {
    proxy: Proxy,
    backend: Backend,
}

impl Pair {
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let backend = Backend::start();
        Self { proxy: Proxy::to_with(backend.address(), change), backend }
    }

    /// The client counts as anybody.
    fn untrusted() -> Self {
        Self::with(|_| {})
    }

    /// The client, on 127.0.0.1, counts as a trusted proxy.
    fn trusted() -> Self {
        Self::with(|settings| settings.trust = Trust::parse(&["127.0.0.1".to_owned(), "10.0.0.0/8".to_owned()], None).unwrap())
    }

    /// The client counts as Cloudflare.
    fn cloudflare() -> Self {
        let ranges = ["127.0.0.0/8".parse().unwrap()];
        Self::with(|settings| settings.trust = Trust::parse(&["cloudflare".to_owned()], Some(&ranges)).unwrap())
    }

    /// What the backend sees of a request with these further fields.
    #[track_caller]
    fn seen(&self, fields: &str) -> Head {
        let mut client = self.proxy.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: Shop.test:8080\r\n{fields}\r\n"));
        let (_wire, request) = self.backend.answer(OK);
        assert_eq!(client.head().status(), 204);
        request.head
    }

    /// What the client sees of a response with these fields.
    #[track_caller]
    fn returned(&self, response: &str) -> Head {
        let mut client = self.proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (_wire, _) = self.backend.answer(response);
        client.message().head
    }
}

/// Asserts each field's values, in order; none: it isn't there.
#[track_caller]
fn assert_fields(head: &Head, expected: &[(&str, &[&str])]) {
    for (name, values) in expected {
        assert_eq!(head.all(name), *values, "{name} in {head:?}");
    }
}

#[test]
fn hop_by_hop_fields_and_what_connection_names_stop_here() {
    let pair = Pair::untrusted();
    let head = pair.seen(
        "Connection: keep-alive, X-Mine, close-ish\r\nConnection: X-Too\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Upgrade: foo\r\nProxy-Authorization: Basic x\r\nX-Mine: 1\r\nX-Too: 1\r\nTE: gzip, trailers\r\nTrailer: X-T\r\nX-Other: 1\r\nCookie: a\r\nCookie: b\r\n",
    );
    assert_fields(
        &head,
        &[
            ("Connection", &[]),
            ("Keep-Alive", &[]),
            ("Proxy-Connection", &[]),
            ("Upgrade", &[]),
            ("Proxy-Authorization", &[]),
            ("X-Mine", &[]),
            ("X-Too", &[]),
            ("TE", &["trailers"]),
            ("Trailer", &["X-T"]),
            ("X-Other", &["1"]),
            ("Cookie", &["a", "b"]),
            ("Host", &["Shop.test:8080"]),
        ],
    );
}

#[test]
fn connection_cannot_remove_what_we_or_others_rely_on() {
    let head = Pair::untrusted().seen(
        "Connection: close, Host, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Real-IP, X-Request-Id, Authorization, Content-Type\r\n\
         Authorization: Bearer x\r\nContent-Type: text/plain\r\n",
    );
    assert_fields(
        &head,
        &[
            ("Host", &["Shop.test:8080"]),
            ("X-Forwarded-For", &["127.0.0.1"]),
            ("X-Forwarded-Proto", &["http"]),
            ("X-Real-IP", &["127.0.0.1"]),
            ("Authorization", &["Bearer x"]),
            ("Content-Type", &["text/plain"]),
        ],
    );
    assert_eq!(head.all("X-Request-Id").len(), 1);
}

#[test]
fn te_goes_no_further_unless_it_is_trailers() {
    assert_fields(&Pair::untrusted().seen("TE: gzip;q=0.5\r\n"), &[("TE", &[])]);
}

#[test]
fn an_untrusted_client_cannot_say_who_it_is() {
    let pair = Pair::untrusted();
    let port = pair.proxy.address.port().to_string();
    let head = pair.seen(
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 1.2.3.4\r\n\
         Forwarded: for=1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nX-Forwarded_Proto: https\r\nX_Real_IP: 1.2.3.4\r\nCF-Connecting-IP: 1.2.3.4\r\nCF_Connecting_IP: 1.2.3.4\r\n\
         CF-Visitor: {\"scheme\":\"https\"}\r\nCF-IPCountry: DE\r\nTrue-Client-IP: 1.2.3.4\r\nX-Request-Id: mine\r\nX-Forwarded-Prefix: /admin\r\n",
    );
    assert_fields(
        &head,
        &[
            ("X-Forwarded-For", &["127.0.0.1"]),
            ("X-Forwarded-Proto", &["http"]),
            ("X-Forwarded-Host", &["Shop.test:8080"]),
            ("X-Forwarded-Port", &[&port]),
            ("X-Real-IP", &["127.0.0.1"]),
            ("Forwarded", &[]),
            ("X_Forwarded_For", &[]),
            ("X-Forwarded_Proto", &[]),
            ("X_Real_IP", &[]),
            ("CF-Connecting-IP", &[]),
            ("CF_Connecting_IP", &[]),
            ("CF-Visitor", &[]),
            ("CF-IPCountry", &[]),
            ("True-Client-IP", &[]),
            ("X-Forwarded-Prefix", &[]),
        ],
    );
    assert!(!format!("{head:?}").contains("1.2.3.4"), "{head:?}");
    assert_ne!(head.all("X-Request-Id"), ["mine"]);
}

#[test]
fn a_trusted_proxy_is_believed_and_appended() {
    let head = Pair::trusted().seen(
        "X-Forwarded-For: 1.2.3.4, 192.0.2.7\r\nX-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.test\r\nX-Forwarded-Port: 8443\r\n\
         Forwarded: for=192.0.2.7\r\nX-Request-Id: abc-123\r\nX_Forwarded_For: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6\r\n",
    );
    assert_fields(
        &head,
        &[
            ("X-Forwarded-For", &["1.2.3.4, 192.0.2.7, 10.1.1.1, 127.0.0.1"]),
            ("X-Forwarded-Proto", &["https"]),
            ("X-Forwarded-Host", &["public.test"]),
            ("X-Forwarded-Port", &["8443"]),
            ("X-Real-IP", &["192.0.2.7"]),
            ("Forwarded", &["for=192.0.2.7"]),
            ("X-Request-Id", &["abc-123"]),
            ("X_Forwarded_For", &[]),
            ("CF-Connecting-IP", &[]),
        ],
    );
}

#[test]
fn cloudflare_says_who_the_visitor_is() {
    let mut pair = Pair::cloudflare();
    let head = pair.seen(
        "CF-Connecting-IP: 203.0.113.9\r\nCF-Visitor: {\"scheme\":\"https\"}\r\nCF-IPCountry: DE\r\nTrue-Client-IP: 203.0.113.9\r\nX-Forwarded-For: 203.0.113.9\r\n\
         X-Forwarded-Proto: https\r\nCF-Ray: 1-FRA\r\n",
    );
    assert_fields(
        &head,
        &[
            ("X-Real-IP", &["203.0.113.9"]),
            ("X-Forwarded-For", &["203.0.113.9, 127.0.0.1"]),
            ("X-Forwarded-Proto", &["https"]),
            ("X-Forwarded-Port", &["443"]),
            ("CF-Connecting-IP", &["203.0.113.9"]),
            ("CF-IPCountry", &["DE"]),
            ("CF-Visitor", &["{\"scheme\":\"https\"}"]),
            ("True-Client-IP", &["203.0.113.9"]),
            ("CF-Ray", &["1-FRA"]),
        ],
    );
    let record = pair.proxy.record();
    assert_eq!((&record["client"], &record["peer"].as_str().unwrap()[..9]), (&"203.0.113.9".into(), "127.0.0.1"));
}

#[test]
fn the_log_names_the_peer_as_client_and_replaces_what_is_no_text() {
    let mut pair = Pair::untrusted();
    let mut client = pair.proxy.connect();
    client.send(b"GET /path?q HTTP/1.1\r\nHost: a\r\nUser-Agent: b\xffc\r\n\r\n");
    let _kept = pair.backend.answer(OK);
    client.message();
    let record = pair.proxy.record();
    let peer = format!("{}", client.local_address());
    for (key, expected) in [("client", "127.0.0.1"), ("peer", &peer), ("host", "a"), ("path", "/path?q"), ("user_agent", "b\u{fffd}c")] {
        assert_eq!(record[key], expected, "{key}");
    }
}

#[test]
fn visitor_alone_makes_the_scheme_https_behind_flexible_ssl() {
    assert_fields(&Pair::cloudflare().seen("CF-Visitor: {\"scheme\":\"https\"}\r\n"), &[("X-Forwarded-Proto", &["https"])]);
    assert_fields(&Pair::cloudflare().seen("CF-Visitor: {\"scheme\":\"http\"}\r\n"), &[("X-Forwarded-Proto", &["http"])]);
}

#[test]
fn an_absolute_uri_replaces_host() {
    let pair = Pair::untrusted();
    let mut client = pair.proxy.connect();
    client.send("GET http://Real.test:81/x HTTP/1.1\r\nHost: other.test\r\n\r\n");
    let (_wire, request) = pair.backend.answer(OK);
    assert_fields(&request.head, &[("Host", &["Real.test:81"]), ("X-Forwarded-Host", &["Real.test:81"])]);
    assert_eq!(request.head.start, "GET /x HTTP/1.1");
}

#[test]
fn http_1_0_reaches_the_backend_as_http_1_1() {
    let pair = Pair::untrusted();
    let mut client = pair.proxy.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let (_wire, request) = pair.backend.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    assert_eq!(request.head.start, "GET / HTTP/1.1");
    // HTTP/1.0 knows no chunks: the body ends with the connection.
    let response = client.message();
    assert_fields(&response.head, &[("Transfer-Encoding", &[])]);
    assert_eq!(response.text(), "ok");
}

#[test]
fn an_http_1_0_client_keeps_its_connection_where_it_asks_for_it() {
    let pair = Pair::untrusted();
    let mut client = pair.proxy.connect();
    client.send("GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let (mut upstream, _) = pair.backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let response = client.message();
    assert_fields(&response.head, &[("Connection", &["keep-alive"])]);
    assert_eq!(response.text(), "ok");
    client.send("GET /2 HTTP/1.0\r\n\r\n");
    // HTTP/1.1 wants a Host, even where there is none (RFC 9112 section 3.2).
    assert_fields(&upstream.message().head, &[("Host", &[""]), ("X-Forwarded-Host", &[])]);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.message().text(), "ok");
    client.expect_end();
}

#[test]
fn a_client_that_asks_for_the_end_of_its_connection_gets_it() {
    let pair = Pair::untrusted();
    let mut client = pair.proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let (_upstream, _) = pair.backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let response = client.message();
    assert_fields(&response.head, &[("Connection", &["close"])]);
    assert_eq!(response.text(), "ok");
    client.expect_end();
    // The backend's connection is another matter.
    pair.proxy.wait_for(|numbers| numbers.upstream_idle == 1);
}

#[test]
fn text_beyond_ascii_passes_and_is_logged() {
    let mut pair = Pair::untrusted();
    assert_fields(&pair.seen("X: h\u{e9}\r\nUser-Agent: \u{fc}\"\\\r\n"), &[("X", &["h\u{e9}"]), ("User-Agent", &["\u{fc}\"\\"])]);
    assert_eq!(pair.proxy.record()["user_agent"], "\u{fc}\"\\");
    let head = pair.returned("HTTP/1.1 200 OK\r\nX: h\u{e9}\r\nContent-Length: 0\r\n\r\n");
    assert_fields(&head, &[("X", &["h\u{e9}"])]);
}

#[test]
fn hop_by_hop_fields_of_a_response_stop_here() {
    let head = Pair::untrusted().returned(
        "HTTP/1.1 200 Fine\r\nConnection: close, X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         Content-Length: 0\r\n\r\n",
    );
    assert_fields(
        &head,
        &[
            ("Connection", &[]),
            ("Keep-Alive", &[]),
            ("X-Mine", &[]),
            ("Proxy-Authenticate", &[]),
            ("Upgrade", &[]),
            ("Set-Cookie", &["a=1", "b=2"]),
            ("Via", &[]),
        ],
    );
}

#[test]
fn date_and_server_are_added_only_where_missing() {
    let pair = Pair::untrusted();
    let bare = pair.returned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_fields(&bare, &[("Server", &["nodegate"])]);
    assert_eq!(bare.all("Date").len(), 1);
    let own = pair.returned(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nServer: mine\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n",
    );
    assert_fields(&own, &[("Server", &["mine"]), ("Date", &["Mon, 01 Jan 2024 00:00:00 GMT"])]);
    let without = Pair::with(|settings| settings.server_header = false);
    assert_fields(&without.returned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), &[("Server", &[])]);
    assert_fields(&without.proxy.exchange("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").head, &[("Server", &[])]);
}

#[test]
fn a_request_id_is_made_sent_and_logged() {
    let mut pair = Pair::untrusted();
    let head = pair.seen("");
    let id = head.field("X-Request-Id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(pair.proxy.record()["request_id"], id);
    assert_ne!(pair.seen("").field("X-Request-Id"), Some(id));
}
