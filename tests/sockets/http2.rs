//! HTTP/2 to clients: what becomes of a request and its response, and how a connection ends.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use nodegate::proxy::Settings;
use rcgen::PKCS_ECDSA_P256_SHA256;
use socket2::SockRef;

use crate::support::{
    Backend, Http2, Issued, PATIENCE, Proxy, TlsClient, Wire,
    frames::{ACK, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, NO_ERROR, PING, WINDOW_UPDATE, fields},
    issue, manifest, secret,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A proxy that speaks HTTP/2 without TLS, and where.
fn proxy(backend: SocketAddr, change: impl FnOnce(&mut Settings)) -> (Proxy, SocketAddr) {
    let proxy = Proxy::to_with(backend, |settings| {
        settings.h2c = vec![loopback()];
        change(settings);
    });
    let address = proxy.addresses[1];
    (proxy, address)
}

fn post(uri: &str) -> Request<()> {
    Request::post(uri).body(()).unwrap()
}

#[test]
fn a_request_reaches_the_backend_in_http_1_1() {
    let backend = Backend::start();
    let (mut proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Http2::connect(address);
    let mut request = Request::get("http://Shop.example:81/a/../b%7e?q=1").body(()).unwrap();
    for crumb in ["a=1", "b=2; c=3", "d=4"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    request.headers_mut().append("te", HeaderValue::from_static("trailers"));
    let call = client.begin(request, true);
    let (_upstream, got) =
        backend.answer("HTTP/1.1 203 Fine\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(got.head.start, "GET /b~?q=1 HTTP/1.1");
    let field = |name| got.head.all(name);
    assert_eq!(field("Host"), ["Shop.example:81"]);
    assert_eq!(field("Cookie"), ["a=1; b=2; c=3; d=4"]);
    assert_eq!(field("TE"), ["trailers"]);
    assert_eq!(field("X-Forwarded-Proto"), ["http"]);
    assert_eq!(field("X-Forwarded-Host"), ["Shop.example:81"]);
    assert_eq!(field("X-Forwarded-Port"), [address.port().to_string()]);
    assert_eq!(field("Content-Length").len() + field("Transfer-Encoding").len(), 0);
    let answer = client.answer(call.response).unwrap();
    assert_eq!((answer.status(), answer.text()), (203, "ok"));
    assert_eq!(answer.field("x-end"), Some("2"));
    assert_eq!((answer.field("x-hop"), answer.field("connection")), (None, None));
    assert_eq!(answer.field("server"), Some("nodegate"));
    assert!(answer.field("date").is_some_and(|date| date.ends_with(" GMT")), "{:?}", answer.head);
    let record = proxy.record();
    assert_eq!((&record["protocol"], &record["host"], &record["status"]), (&"HTTP/2".into(), &"Shop.example:81".into(), &203.into()));
}

#[test]
fn the_client_chooses_the_version_in_its_handshake() {
    let backend = Backend::start().serve("ok");
    let https = |http2: bool| {
        move |settings: &mut Settings| {
            settings.https = vec![loopback()];
            settings.http2 = http2;
        }
    };
    let (with, without) = (Proxy::to_with(backend, https(true)), Proxy::to_with(backend, https(false)));
    for (label, proxy, offered, expected) in [
        ("both", &with, &["http/1.1", "h2"][..], Some("h2")),
        ("the old one", &with, &["http/1.1"], Some("http/1.1")),
        ("nothing", &with, &[], None),
        ("both, and HTTP/2 is off", &without, &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let mut client = TlsClient::offering(offered).connect(proxy.addresses[1], Some("a.example"));
        assert_eq!(client.protocol.as_deref(), expected.map(str::as_bytes), "{label}");
        let text = if expected == Some("h2") {
            Http2::over(client.wire).get("https://a.example/").text().to_owned()
        } else {
            client.wire.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").text().to_owned()
        };
        assert_eq!(text, "ok", "{label}");
    }
    assert!(TlsClient::offering(&["h2"]).try_connect(without.addresses[1], Some("a.example")).is_err());
}

#[test]
fn a_request_for_another_certificate_s_host_is_misdirected() {
    let backend = Backend::start().serve("ok");
    let issued = |name: &str| issue(&PKCS_ECDSA_P256_SHA256, &[name]);
    let one = |name: &str, issued: &Issued| {
        let rules = manifest(&[(&format!("{name}.example"), "/", backend)]).replace("-0", &format!("-{name}"));
        let tls = format!("ingressClassName: nodegate\n  tls: [{{ secretName: {name}, hosts: [{name}.example] }}]");
        rules.replace("ingressClassName: nodegate", &tls) + &secret("tests", name, issued)
    };
    let proxy =
        Proxy::with(&(one("a", &issued("a.example")) + &one("b", &issued("b.example"))), |settings| settings.https = vec![loopback()]);
    let mut client = Http2::over(TlsClient::offering(&["h2"]).connect(proxy.addresses[1], Some("a.example")).wire);
    assert_eq!(client.get("https://a.example/").text(), "ok");
    client.get("https://b.example/").assert_own(421, "misdirected");
    assert_eq!(client.get("https://a.example/").text(), "ok", "the connection goes on");
}

#[test]
fn bodies_and_trailers_stream_both_ways_at_once() {
    let backend = Backend::start();
    let (_proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Http2::connect(address);
    let mut request = post("http://a/");
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
    let mut call = client.begin(request, false);
    let mut upstream = backend.accept();
    let head = upstream.head();
    assert_eq!(head.all("Transfer-Encoding"), ["chunked"]);
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n");
    let mut answer = client.head(call.response).unwrap();
    for word in ["first", "second"] {
        call.sending.send_data(Bytes::from(word), false).unwrap();
        upstream.until(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes());
        upstream.send(format!("{:x}\r\n{word}\r\n", word.len()));
        assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), word);
    }
    let trailers = [("x-sum", "1"), ("x-forwarded-for", "6.6.6.6")];
    call.sending
        .send_trailers(trailers.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect())
        .unwrap();
    assert_eq!(upstream.until(b"\r\n\r\n"), b"0\r\nx-sum: 1\r\n\r\n");
    upstream.send("0\r\ngrpc-status: 0\r\n\r\n");
    assert!(client.wait(answer.body_mut().data()).is_none());
    let trailers = client.wait(answer.body_mut().trailers()).unwrap().unwrap();
    assert_eq!(trailers, HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]));
}

#[test]
fn large_bodies_pass_whole_over_many_streams() {
    const SIZE: usize = 3_000_000;
    let backend = Backend::start().serve_each(|_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            let body = wire.message().body;
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            wire.send(&body);
        }
    });
    let (_proxy, address) = proxy(backend, |_| {});
    let mut client = Http2::connect(address);
    let bodies: Vec<Bytes> =
        (0..8_u8).map(|seed| (0..SIZE).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap())).collect()).collect();
    let calls: Vec<_> = bodies
        .iter()
        .map(|body| {
            let mut call = client.begin(post("http://a/"), false);
            call.sending.send_data(body.clone(), true).unwrap();
            call.response
        })
        .collect();
    for (answer, body) in client.answers(calls).into_iter().zip(bodies) {
        assert!(answer.body == body);
    }
}

#[test]
fn who_expects_100_is_told_to_go_on_once_the_backend_asks() {
    let backend = Backend::start();
    let (_proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Http2::connect(address);
    let mut request = post("http://a/");
    request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    request.headers_mut().insert("content-length", HeaderValue::from_static("4"));
    let mut call = client.begin(request, false);
    let interim = client.wait(std::future::poll_fn(|cx| call.response.poll_informational(cx))).unwrap().unwrap();
    assert_eq!(interim.status(), 100);
    call.sending.send_data(Bytes::from("body"), true).unwrap();
    let (_upstream, got) = backend.answer(OK);
    assert_eq!((got.text(), got.head.all("Expect").len()), ("body", 0));
    assert_eq!(client.answer(call.response).unwrap().text(), "ok");
}

#[test]
fn answers_of_our_own_are_like_those_over_http_1() {
    let backend = Backend::start().serve("ok");
    let (_proxy, address) = proxy(backend, |_| {});
    let mut client = Http2::connect(address);
    let with = |fields: &[(&str, &str)]| {
        let mut request = Request::get("http://a/").body(()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        request
    };
    let many: Vec<String> = (0..98).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let crumbs: Vec<(&str, &str)> = vec![("cookie", "a=1"); 500];
    for (label, request, status, reason) in [
        ("another host beside :authority", with(&[("host", "b")]), 400, Some("bad_request")),
        ("the same host beside :authority", with(&[("host", "a")]), 200, None),
        ("98 fields", with(&many), 200, None),
        ("101 fields", with(&[&many[..], &[("y", "1"), ("z", "1"), ("zz", "1")]].concat()), 431, Some("header_limit")),
        ("500 cookies", with(&crumbs), 200, None),
        ("an expectation that nobody knows", with(&[("expect", "a miracle")]), 417, Some("expectation")),
        ("TRACE", Request::builder().method("TRACE").uri("http://a/").body(()).unwrap(), 405, Some("method")),
        ("a path above the root", Request::get("http://a/../b").body(()).unwrap(), 400, Some("bad_request")),
        ("another scheme", Request::get("ftp://a/").body(()).unwrap(), 400, Some("bad_request")),
    ] {
        let answer = client.exchange(request);
        assert_eq!((answer.status(), answer.field("x-nodegate-reason")), (status, reason), "{label}");
        assert_eq!(answer.field("connection"), None, "{label}");
    }
    let call = client.begin(Request::builder().method("CONNECT").uri("a:80").body(()).unwrap(), false);
    client.answer(call.response).unwrap().assert_own(405, "method");
    assert_eq!(client.get("http://a/").text(), "ok", "the connection goes on");
}

#[test]
fn a_request_that_its_client_gives_up_is_given_up_upstream() {
    let backend = Backend::start();
    let (mut proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Http2::connect(address);
    for begun in [false, true] {
        let mut call = client.begin(Request::get("http://a/").body(()).unwrap(), true);
        let mut upstream = backend.accept();
        upstream.message();
        if begun {
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
            client.head(call.response).unwrap();
        }
        call.sending.send_reset(Reason::CANCEL);
        upstream.expect_end();
        let record = proxy.record();
        assert_eq!(record["reason"], "client_gone", "{record}");
    }
    let other = client.begin(Request::get("http://a/").body(()).unwrap(), true);
    backend.answer(OK);
    assert_eq!(client.answer(other.response).unwrap().text(), "ok", "its other streams go on");
    assert_eq!(proxy.numbers().active_requests, 0);
}

#[test]
fn a_client_that_is_gone_ends_all_its_requests() {
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Http2::connect(address);
    let calls: Vec<_> = (0..5).map(|_| client.begin(Request::get("http://a/").body(()).unwrap(), true)).collect();
    let mut upstreams: Vec<_> = (0..5).map(|_| backend.accept()).collect();
    for upstream in &mut upstreams {
        upstream.message();
    }
    drop((calls, client));
    for upstream in &mut upstreams {
        upstream.expect_end();
    }
    proxy.wait_for(|numbers| (numbers.active_requests, numbers.connections_open) == (0, 0));
}

#[test]
fn a_response_that_breaks_off_ends_in_an_error_of_its_stream_alone() {
    let backend = Backend::start();
    let (_proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Http2::connect(address);
    let call = client.begin(Request::get("http://a/").body(()).unwrap(), true);
    drop(backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"));
    let error = client.answer(call.response).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let call = client.begin(Request::get("http://a/").body(()).unwrap(), true);
    backend.answer(OK);
    assert_eq!(client.answer(call.response).unwrap().text(), "ok");
}

#[test]
fn an_early_answer_is_whole_and_ends_the_upload() {
    let backend = Backend::start();
    let (_proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Http2::connect(address);
    let mut call = client.begin(post("http://a/"), false);
    call.sending.send_data(Bytes::from("part"), false).unwrap();
    let mut upstream = backend.accept();
    upstream.until(b"part");
    upstream.send("HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\nno!");
    let answer = client.answer(call.response).unwrap();
    assert_eq!((answer.status(), answer.text()), (413, "no!"));
    let reset = client.wait(std::future::poll_fn(|cx| call.sending.poll_reset(cx))).unwrap();
    assert_eq!(reset, Reason::NO_ERROR, "RFC 9113 section 8.1");
    upstream.rest();
}

#[test]
fn a_drain_finishes_what_is_under_way_and_what_is_on_its_way() {
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address(), |_| {});
    let mut client = Frames::connect(address, &[]);
    client.get(1);
    let mut first = backend.accept();
    first.message();
    proxy.drain(PATIENCE);
    assert_eq!(client.goaway(), (0x7fff_ffff, NO_ERROR), "the client shall send no new requests");
    // One that it has sent before it knew.
    client.get(3);
    let mut second = backend.accept();
    second.message();
    let ping = client.until(PING, 0);
    client.send(PING, ACK, 0, &ping.payload);
    assert_eq!(client.goaway(), (3, NO_ERROR), "up to here they are served");
    first.send(OK);
    second.send(OK);
    let mut answered: Vec<u32> =
        std::iter::from_fn(|| client.next()).filter(|frame| frame.payload == b"ok").map(|frame| frame.stream).collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    client.wire.expect_end();
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn the_last_request_that_a_connection_may_carry_says_so() {
    let backend = Backend::start().serve("ok");
    let (_proxy, address) = proxy(backend, |settings| settings.limits.requests_per_connection = 2);
    let mut client = Http2::connect(address);
    assert_eq!(client.get("http://a/").text(), "ok");
    assert_eq!(client.get("http://a/").text(), "ok");
    client.ended().unwrap();
}

#[test]
fn streams_over_the_limit_are_refused_and_those_within_it_served() {
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address(), |settings| settings.limits.http2_streams = 2);
    let mut client = Frames::connect(address, &[]);
    for stream in [1, 3, 5] {
        client.get(stream);
    }
    assert_eq!(client.reset(5), 7, "REFUSED_STREAM: it may be sent again");
    let mut upstreams: Vec<_> = (0..2).map(|_| backend.accept()).collect();
    for upstream in &mut upstreams {
        upstream.message();
        upstream.send(OK);
    }
    assert!(client.is_alive());
    assert_eq!(proxy.numbers().connections_open, 1);
    assert!(backend.accept_within(Duration::from_millis(100)).is_none());
}

#[test]
fn an_answer_to_head_has_no_body() {
    let (_proxy, address) = {
        let proxy = Proxy::with("", |settings| settings.h2c = vec![loopback()]);
        let address = proxy.addresses[1];
        (proxy, address)
    };
    let mut client = Frames::connect(address, &[]);
    client.send(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &fields(&[(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "a")]),
    );
    assert_ne!(client.until(HEADERS, 1).flags & END_STREAM, 0, "the head is the end");
    assert!(client.is_alive());
}

#[test]
fn the_end_of_a_response_needs_no_room() {
    let backend = Backend::start();
    let (_proxy, address) = proxy(backend.address(), |_| {});
    // All of the windows, and no more.
    let (size, mut client) = (65_535, Frames::connect(address, &[]));
    client.get(1);
    let mut upstream = backend.accept();
    upstream.message();
    upstream.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size)));
    let mut got = 0;
    loop {
        let frame = client.until(DATA, 1);
        got += frame.payload.len();
        if frame.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(got, size);
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_its_responses_in_a_drain() {
    // Each fits into what may wait for its turn to be written; all together are more than any socket takes.
    const SIZE: usize = 60_000;
    let backend = Backend::start().serve_each(|_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            wire.message();
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n{}", "x".repeat(SIZE)));
        }
    });
    let (proxy, address) = proxy(backend, |_| {});
    let stream = TcpStream::connect(address).unwrap();
    SockRef::from(&stream).set_recv_buffer_size(128 * 1024).unwrap();
    let mut client = Frames::over(Wire::new(stream), &[(4, 0x7fff_ffff)]);
    client.send(WINDOW_UPDATE, 0, 0, &0x7f00_0000_u32.to_be_bytes());
    let streams: Vec<u32> = (0..120).map(|number| 2 * number + 1).collect();
    for stream in &streams {
        client.get(*stream);
    }
    proxy.wait_for(|numbers| numbers.connections_accepted == 1 && numbers.active_requests == 0);
    proxy.drain(PATIENCE);
    // Longer than the farewell takes of those who have nothing under way.
    thread::park_timeout(Duration::from_millis(2500));
    let mut got: HashMap<u32, usize> = HashMap::new();
    while let Some(frame) = client.next() {
        if frame.kind == DATA {
            *got.entry(frame.stream).or_default() += frame.payload.len();
        }
    }
    let short: Vec<_> = streams.iter().filter(|stream| got.get(stream) != Some(&SIZE)).collect();
    assert!(short.is_empty(), "cut off: {short:?}");
}
