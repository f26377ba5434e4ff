//! What is refused before it reaches a backend: malformed heads, doubtful framing, bad hosts and paths, forbidden methods.

use std::time::Duration;

use crate::support::{Backend, PATIENCE, Proxy, Wire, manifest};

/// Sends each request on a connection of its own. Each is answered 400 and its connection closed, and no backend hears of it.
#[track_caller]
fn all_are_refused(requests: &[(&str, &str)]) {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for (label, request) in requests {
        println!("{label}");
        let mut client = proxy.connect();
        let response = client.exchange(request);
        response.assert_own(400, "bad_request");
        assert_eq!(response.head.field("connection"), Some("close"), "{label}");
        client.expect_end();
    }
    assert!(backend.accept_within(Duration::from_millis(50)).is_none(), "a refused request reached the backend");
}

#[test]
fn malformed_heads_are_refused() {
    all_are_refused(&[
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no slash", "GET foo HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a method that is no token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("another version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        ("version 9.9", "GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
        ("HTTP/0.9", "GET /\r\n\r\n"),
        ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("the server as a whole, which has no path", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a TLS handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
        ("obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        ("obs-fold in the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("a bare CR", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n"),
        ("bare line feeds", "GET / HTTP/1.1\nHost: a\n\n"),
        ("NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
        ("NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n"),
        ("DEL", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n"),
        ("a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("no colon", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
        ("no name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ]);
}

#[test]
fn doubtful_framing_is_refused() {
    all_are_refused(&[
        (
            "Content-Length and Transfer-Encoding",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        ),
        ("the other way round", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX"),
        ("xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("gzip, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("two codings", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ("a coding with a tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("the same length twice", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
        ("a negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na"),
        ("a length that overflows", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na"),
    ]);
}

#[test]
fn http_1_1_needs_exactly_one_valid_host() {
    all_are_refused(&[
        ("none", "GET / HTTP/1.1\r\n\r\n"),
        ("two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("the same twice", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
        ("two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        ("a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ("a path", "GET / HTTP/1.1\r\nHost: a/x\r\n\r\n"),
        ("user information", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        ("a port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
        ("a port that is none", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
        ("a port out of range", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
        ("a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        ("absolute form without Host", "GET http://a/ HTTP/1.1\r\n\r\n"),
        ("absolute form with two", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ]);
}

#[test]
fn paths_that_mean_two_things_are_refused() {
    all_are_refused(&[
        ("NUL", "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an invalid escape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("half an escape", "GET /a%2 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a control byte", "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a backslash", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("above the root", "GET /../a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("above the root, escaped", "GET /a/%2e%2E/../b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]);
}

#[test]
fn what_was_matched_is_what_is_forwarded() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for (sent, forwarded) in [
        ("/", "/"),
        ("/a/%62%7e/%c3%bc?q=%62", "/a/b~/%C3%BC?q=%62"),
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a/%2E%2e/b", "/b"),
        ("/a%2fb//c", "/a%2Fb//c"),
        ("/{a}|b", "/{a}|b"),
        ("http://host.test/x?y", "/x?y"),
        ("http://host.test", "/"),
        ("/?a=/../b", "/?a=/../b"),
    ] {
        let mut client = proxy.connect();
        client.send(format!("GET {sent} HTTP/1.1\r\nHost: host.test\r\n\r\n"));
        let (_wire, request) = backend.answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!(request.head.target(), forwarded, "{sent}");
        assert_eq!(client.head().status(), 204, "{sent}");
    }
}

#[test]
fn broken_chunks_are_refused_and_the_connection_closed() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for (label, chunks) in [
        ("overflow", "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n"),
        ("close to overflow", "fffffffffffffff0\r\nhello\r\n0\r\n\r\n"),
        ("not hexadecimal", "5x\r\nhello\r\n0\r\n\r\n"),
        ("signed", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed", "5\nhello\r\n0\r\n\r\n"),
        ("a second chunk that is broken", "5\r\nhello\r\nx\r\n"),
        ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
    ] {
        println!("{label}");
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
        client.message().assert_own(400, "bad_request");
        client.expect_end();
        // What has reached the backend is never a whole request.
        if let Some(mut wire) = backend.accept_within(Duration::from_millis(20)) {
            let bytes = wire.rest();
            assert!(!String::from_utf8_lossy(&bytes).contains("\r\n0\r\n\r\n"), "{label}: the backend saw the end of a body");
        }
    }
}

#[test]
fn what_is_too_much_beside_a_body_is_refused() {
    let (extension, trailer) = ("x".repeat(20_000), "y".repeat(20_000));
    let (few, many) = ("A: b\r\n".repeat(100), "A: b\r\n".repeat(101));
    for (label, chunks, refused) in [
        ("a chunk extension", format!("2;{extension}\r\nab\r\n0\r\n\r\n"), true),
        ("an extension of the last chunk", format!("2\r\nab\r\n0;{extension}\r\n\r\n"), true),
        ("a trailer", format!("2\r\nab\r\n0\r\nX: {trailer}\r\n\r\n"), true),
        ("a trailer without an end", format!("2\r\nab\r\n0\r\nX: {trailer}"), true),
        ("101 trailers", format!("2\r\nab\r\n0\r\n{many}\r\n"), true),
        ("100 trailers", format!("2\r\nab\r\n0\r\n{few}\r\n"), false),
    ] {
        println!("{label}");
        let backend = Backend::start();
        let mut proxy = Proxy::to(backend.address());
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
        if refused {
            client.message().assert_own(400, "bad_request");
            client.expect_end();
            assert_eq!(proxy.record()["reason"], "bad_request", "{label}");
        } else {
            backend.answer("HTTP/1.1 204 No Content\r\n\r\n");
            assert_eq!(client.head().status(), 204);
        }
    }
}

#[test]
fn trace_and_connect_are_405_and_every_other_token_passes() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    for request in ["TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"] {
        let response = proxy.exchange(request);
        response.assert_own(405, "method");
        // RFC 9110 section 15.5.6 demands it.
        let allowed = response.head.field("allow").unwrap();
        assert!(allowed.contains("GET") && !allowed.contains("TRACE") && !allowed.contains("CONNECT"), "{allowed}");
    }
    for method in ["GET", "PURGE", "PROPFIND", "get", "X!#$%&'*+-.^_`|~9"] {
        let mut client = proxy.connect();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let (_wire, request) = backend.answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!(request.head.start, format!("{method} / HTTP/1.1"));
        assert_eq!(client.head().status(), 204);
    }
}

/// However the message before it ends, in the same packet.
#[test]
fn a_refused_head_is_answered_behind_the_answers_before_it() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let refused = [
        "GET /second HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        // The HTTP server alone would take this one for a request.
        "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for (first, body) in [
        ("GET /first HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        ("POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
    ] {
        for second in refused {
            let mut client = proxy.connect();
            client.send([first, second, "GET /third HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
            let (_wire, request) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            assert_eq!((request.head.target(), request.text()), ("/first", body));
            assert_eq!(client.message().text(), "ok");
            client.message().assert_own(400, "bad_request");
            client.expect_end();
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    let request = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    client.send(["/1", "/2", "/3"].map(request).concat());
    let mut wire: Option<Wire> = None;
    for path in ["/1", "/2", "/3"] {
        let wire = wire.get_or_insert_with(|| backend.accept());
        let request = wire.message();
        assert_eq!((request.head.target(), request.text()), (path, "abc"));
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{path}"));
        assert_eq!(client.message().text(), path);
    }
}

#[test]
fn an_empty_line_before_a_request_is_ignored() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.exchange("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "hello");
    }
}

#[test]
fn more_requests_than_are_kept_at_once_are_all_answered() {
    const REQUESTS: usize = 2000;
    let proxy = Proxy::to(Backend::start().serve_each(|_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            let target = wire.message().head.target().to_owned();
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
        }
    }));
    let mut client = proxy.connect();
    let padding = |number: usize| "y".repeat(number % 50);
    let requests: Vec<String> =
        (0..REQUESTS).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", padding(number))).collect();
    client.send(requests.concat());
    for number in 0..REQUESTS {
        assert_eq!(client.message().text(), format!("/{number}"));
    }
}

#[test]
fn a_host_is_found_however_it_is_written() {
    let proxy =
        Proxy::start(&manifest(&[("shop.test", "/", Backend::start().serve("shop")), ("*.shop.test", "/", Backend::start().serve("any"))]));
    for (target, host, expected) in [
        ("/", "shop.test", "shop"),
        ("/", "SHOP.Test", "shop"),
        ("/", "shop.test:8080", "shop"),
        ("/", "shop.test.", "shop"),
        ("/", "Shop.Test.:80", "shop"),
        ("/", "a.shop.test", "any"),
        ("http://shop.test/", "other.test", "shop"),
        ("http://A.SHOP.TEST:81/", "shop.test", "any"),
    ] {
        let response = proxy.exchange(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.text(), expected, "{target} {host}");
    }
    proxy.get("a.b.shop.test", "/").assert_own(404, "no_route");
}
