//! Bodies in both directions: streamed as they come, ended as they end, never held whole.

use std::time::Duration;

use crate::support::{Backend, Proxy, Wire};

/// A body that no socket's buffers hold.
const TOTAL: usize = 200 << 20;

/// A client in the middle of a request, and the backend's end of it with the head read.
#[track_caller]
fn begin(request: &str) -> (Proxy, Backend, Wire, Wire, crate::support::Head) {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send(request);
    let mut upstream = backend.accept();
    let head = upstream.head();
    (proxy, backend, client, upstream, head)
}

#[test]
fn a_body_of_known_length_keeps_its_length() {
    let (_proxy, _backend, mut client, mut upstream, head) = begin("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((head.field("content-length"), head.field("transfer-encoding")), (Some("5"), None));
    assert_eq!(upstream.body(head).text(), "hello");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbye");
    let response = client.message();
    assert_eq!((response.head.field("content-length"), response.text()), (Some("3"), "bye"));
}

#[test]
fn bodies_reach_the_backend_whatever_the_method() {
    for method in ["GET", "DELETE", "OPTIONS", "POST", "PURGE"] {
        let chunked = format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
        let (_proxy, _backend, mut client, mut upstream, head) = begin(&chunked);
        assert_eq!((head.all("transfer-encoding"), head.field("content-length")), (vec!["chunked"], None), "{method}");
        let request = upstream.body(head);
        assert!(request.complete && request.text() == "abcde", "{method}: {request:?}");
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.head().status(), 204);
        let sized = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
        let (_proxy, _backend, _client, mut upstream, head) = begin(&sized);
        assert_eq!(upstream.body(head).text(), "ab", "{method}");
    }
}

#[test]
fn an_empty_post_says_that_it_is_empty() {
    let (_proxy, _backend, _client, _upstream, head) = begin("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((head.field("content-length"), head.field("transfer-encoding")), (Some("0"), None));
}

#[test]
fn a_request_body_streams() {
    let (_proxy, _backend, mut client, mut upstream, _) = begin("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in ["one", "two", "six"] {
        client.send(format!("3\r\n{part}\r\n"));
        upstream.until(part.as_bytes());
    }
    client.send("0\r\n\r\n");
    upstream.until(b"0\r\n\r\n");
}

#[test]
fn server_sent_events_are_flushed_as_they_come() {
    let (_proxy, _backend, mut client, mut upstream, _) = begin("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().field("content-type"), Some("text/event-stream"));
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        upstream.send(format!("{:x}\r\n{event}\r\n", event.len()));
        client.until(event.as_bytes());
    }
    upstream.send("0\r\n\r\n");
    client.until(b"0\r\n\r\n");
}

#[test]
fn trailers_pass_in_both_directions() {
    let (_proxy, _backend, mut client, mut upstream, head) = begin(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    assert_eq!(head.field("te"), Some("trailers"));
    let request = upstream.body(head);
    assert_eq!((request.text(), &request.trailers[..]), ("ab", &[("x-sum".to_owned(), "1".to_owned())][..]));
    upstream.send("HTTP/1.1 200 OK\r\nTrailer: Grpc-Status\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n");
    let response = client.message();
    assert_eq!((response.text(), &response.trailers[..]), ("ok", &[("grpc-status".to_owned(), "0".to_owned())][..]));
}

#[test]
fn trailers_do_not_say_who_the_client_is() {
    const TRAILERS: [&str; 8] =
        ["X-Forwarded-For", "X_Forwarded_For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP", "Authorization", "X-Sum"];
    let fields: String = TRAILERS.map(|name| format!("{name}: 1.2.3.4\r\n")).concat();
    let head = format!("TE: trailers\r\nTrailer: {}\r\nTransfer-Encoding: chunked", TRAILERS.join(", "));
    let (_proxy, _backend, mut client, mut upstream, head_seen) =
        begin(&format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n2\r\nab\r\n0\r\n{fields}\r\n"));
    let request = upstream.body(head_seen);
    assert!(request.complete && request.text() == "ab", "{request:?}");
    assert_eq!(request.trailers, [("x-sum".to_owned(), "1.2.3.4".to_owned())]);
    upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n2\r\nok\r\n0\r\n{fields}\r\n"));
    let response = client.message();
    assert!(response.complete && response.text() == "ok", "{response:?}");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "1.2.3.4".to_owned())]);
}

#[test]
fn messages_with_trailers_end_well_announced_or_not() {
    let backend = Backend::start();
    let mut proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    let mut upstream = None;
    // What nobody has announced is dropped, which RFC 9110 section 6.5.1 allows.
    for (te, trailer, passed) in [("TE: trailers\r\n", "Trailer: X-Sum\r\n", 1), ("", "", 0), ("TE: trailers\r\n", "Trailer: X-Sum\r\n", 1)]
    {
        let body = "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{te}{trailer}{body}"));
        let upstream = upstream.get_or_insert_with(|| backend.accept());
        let request = upstream.message();
        assert!(request.complete && request.text() == "ok" && request.trailers.len() == passed, "{request:?}");
        upstream.send(format!("HTTP/1.1 200 OK\r\n{trailer}{body}"));
        let response = client.message();
        assert!(response.complete && response.text() == "ok" && response.trailers.len() == passed, "{response:?}");
        let record = proxy.record();
        assert_eq!((&record["status"], &record["reason"]), (&200.into(), &serde_json::Value::Null));
        proxy.wait_for(|numbers| numbers.upstream_idle == 1);
    }
    assert_eq!(proxy.numbers().upstream_dials, 1);
}

#[test]
fn expect_100_continue_is_honoured_and_goes_no_further() {
    let (proxy, _backend, mut client, mut upstream, head) =
        begin("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(head.field("expect"), None);
    assert_eq!(client.head().status(), 100);
    client.send("hello");
    assert_eq!(upstream.body(head).text(), "hello");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.message().text(), "ok");
    // Nobody is asked for a body that goes nowhere.
    proxy.exchange("TRACE / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").assert_own(405, "method");
}

#[test]
fn an_early_response_arrives_while_the_request_is_still_coming() {
    let (_proxy, _backend, mut client, mut upstream, _) = begin("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbeginning");
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!");
    let response = client.message();
    assert_eq!((response.status(), response.text()), (413, "no!"));
    // The client is told that it can't ask again on this connection.
    assert_eq!(response.head.field("connection"), Some("close"));
    // The rest of the request can't be told from a next one, so the backend's connection ends.
    assert_eq!(upstream.rest(), b"beginning");
}

#[test]
fn whoever_may_not_ask_again_is_told_so_whatever_has_come_of_the_body() {
    const SIZED: &str = "POST / HTTP/1.1\r\nHost: unknown.example\r\nContent-Length: 5\r\n\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: unknown.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let proxy = Proxy::start("");
    for (head, body) in [
        (SIZED, "hello"),
        (SIZED, "he"),
        (CHUNKED, "0\r\n\r\n"),
        (CHUNKED, "5\r\nhello\r\n0\r\n\r\n"),
        (CHUNKED, "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
        (CHUNKED, "5\r\nhello\r\n"),
    ] {
        let mut client = proxy.connect();
        client.send(format!("{head}{body}"));
        let response = client.message();
        assert_eq!(response.status(), 404, "{body:?}");
        if response.head.field("connection") == Some("close") {
            client.expect_end();
        } else {
            assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: unknown.example\r\n\r\n").status(), 404, "{body:?}");
        }
    }
}

#[test]
fn an_early_response_may_go_on_beside_the_request() {
    let (_proxy, _backend, mut client, mut upstream, _) = begin("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    for word in ["ping", "pong"] {
        client.send(format!("4\r\n{word}\r\n"));
        upstream.until(word.as_bytes());
        upstream.send(format!("4\r\n{word}\r\n"));
        client.until(word.as_bytes());
    }
    client.send("0\r\n\r\n");
    upstream.until(b"0\r\n\r\n");
    upstream.send("0\r\n\r\n");
    client.until(b"0\r\n\r\n");
}

#[test]
fn a_body_that_ends_with_its_connection_arrives_whole() {
    let (_proxy, _backend, mut client, mut upstream, _) = begin("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    drop(upstream);
    let response = client.message();
    assert!(response.complete && response.text() == "until the end", "{response:?}");
    assert_eq!(response.head.field("transfer-encoding"), Some("chunked"));
}

#[test]
fn a_backend_that_dies_in_mid_body_never_looks_like_a_clean_end() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\n\r\nhalf";
    for (label, response, reset) in [
        ("chunked, closed", CHUNKED, false),
        ("chunked, reset", CHUNKED, true),
        ("in mid-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", false),
        ("sized, closed", SIZED, false),
        ("sized, reset", SIZED, true),
        ("to its end, reset", ENDLESS, true),
    ] {
        println!("{label}");
        let (mut proxy, _backend, mut client, mut upstream, _) = begin("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        upstream.send(response);
        let head = client.head();
        // Seen by the client before the end comes, so that a reset can't overtake it.
        client.until(b"half");
        if reset {
            upstream.reset();
        } else {
            drop(upstream);
        }
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(!rest.contains("0\r\n\r\n"), "{label}: a clean end: {rest:?}");
        assert_eq!(head.status(), 200);
        let record = proxy.record();
        assert_eq!((&record["status"], &record["reason"]), (&200.into(), &"upstream_reset".into()), "{label}");
    }
}

#[test]
fn a_client_whose_only_sign_is_the_end_of_the_connection_sees_a_reset() {
    for (label, response, cut) in [
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", true),
        ("in mid-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", true),
        ("whole", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n\r\n", false),
    ] {
        let (mut proxy, _backend, mut client, mut upstream, _) = begin("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        upstream.send(response);
        client.until(b"half");
        drop(upstream);
        assert_eq!(client.is_reset(), cut, "{label}");
        let reason = if cut { "upstream_reset".into() } else { serde_json::Value::Null };
        assert_eq!(proxy.record()["reason"], reason, "{label}");
    }
}

#[test]
fn responses_without_a_body_stay_without() {
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    let mut upstream = None;
    for (method, response, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", Some("1000")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        // RFC 9112 section 6: neither may tell of a body, and neither has one.
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", None),
        // RFC 9110 section 15.4.5 leaves it to the sender whether a 304 tells the length; hyper doesn't.
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 1000\r\n\r\n", None),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let upstream = upstream.get_or_insert_with(|| backend.accept());
        upstream.message();
        upstream.send(response);
        let head = client.head();
        assert_eq!(head.field("content-length"), length, "{method} {response:?}");
        assert!(method == "HEAD" || head.field("transfer-encoding").is_none(), "{method} {response:?}");
        assert!(!client.stirs(Duration::from_millis(20)), "{method} {response:?} has a body");
    }
}

#[test]
fn a_client_that_breaks_off_its_upload_leaves_no_whole_request_behind() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
    ] {
        let (mut proxy, _backend, client, mut upstream, head) = begin(request);
        upstream.until(b"half");
        drop(client);
        let rest = String::from_utf8(upstream.rest()).unwrap();
        assert!(!rest.contains("0\r\n"), "{request:?}: the backend saw a clean end: {head:?} {rest:?}");
        assert_eq!(proxy.record()["reason"], "client_gone");
    }
}

#[test]
fn a_client_that_ends_its_side_in_mid_upload_is_told_that_it_sent_no_whole_request() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
    ] {
        let (mut proxy, _backend, mut client, mut upstream, _) = begin(request);
        upstream.until(b"half");
        client.finish();
        client.message().assert_own(400, "bad_request");
        client.expect_end();
        let record = proxy.record();
        assert_eq!((&record["status"], &record["reason"]), (&499.into(), &"client_gone".into()));
    }
}

#[test]
fn a_request_that_breaks_beside_its_response_is_its_clients_fault() {
    for (broken, reason) in [("zz\r\n", "bad_request"), ("", "client_timeout")] {
        let backend = Backend::start();
        let mut proxy = Proxy::to_with(backend.address(), |settings| settings.limits.body_idle_timeout = Duration::from_millis(500));
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        let mut upstream = backend.accept();
        upstream.head();
        upstream.until(b"ab");
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        client.until(b"half");
        client.send(broken);
        assert!(!String::from_utf8_lossy(&upstream.rest()).contains("0\r\n"), "{reason}: the backend saw a clean end");
        assert!(!String::from_utf8_lossy(&client.rest()).contains("0\r\n"), "{reason}: the client saw a clean end");
        let record = proxy.record();
        assert_eq!((&record["status"], &record["reason"]), (&200.into(), &reason.into()));
    }
}

#[test]
fn a_client_that_leaves_ends_its_download_at_the_backend() {
    let (mut proxy, _backend, mut client, mut upstream, _) = begin("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    client.until(b"half");
    drop(client);
    upstream.expect_end();
    assert_eq!(proxy.record()["reason"], "client_gone");
}

#[test]
fn a_client_that_takes_nothing_holds_the_backend_back() {
    let (_proxy, _backend, mut client, mut upstream, _) = begin("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n"));
    let taken = upstream.send_until_stuck(TOTAL);
    assert!(taken < TOTAL / 4, "{taken} bytes went into buffers");
    std::thread::scope(|scope| {
        scope.spawn(|| upstream.send_zeros(TOTAL - taken));
        assert_eq!(client.head().field("content-length"), Some(&*TOTAL.to_string()));
        client.skip(TOTAL as u64);
    });
}

#[test]
fn a_backend_that_takes_nothing_holds_the_client_back() {
    let (_proxy, _backend, mut client, mut upstream, _) = begin(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n"));
    let taken = client.send_until_stuck(TOTAL);
    assert!(taken < TOTAL / 4, "{taken} bytes went into buffers");
    std::thread::scope(|scope| {
        scope.spawn(|| client.send_zeros(TOTAL - taken));
        upstream.skip(TOTAL as u64);
    });
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.head().status(), 204);
}
