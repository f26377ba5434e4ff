//! Backends that speak HTTP/2, or TLS, or both.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use nodegate::proxy::Settings;
use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::{
    dials::Silent,
    support::{
        BIG, Backend, Endpoint, Http2, Http2Backend, Issued, Proxy, Refusing, Service, TOGETHER, eventually,
        frames::{DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, fields, frame},
        issue, manifest, secret, service,
    },
};

/// An Ingress with these annotations that leads everything to `backend`.
pub fn annotated(backend: SocketAddr, annotations: &[(&str, &str)]) -> String {
    let annotations: Vec<String> = annotations.iter().map(|(name, value)| format!("nodegate.dev/{name}: \"{value}\"")).collect();
    let named = format!("metadata: {{ name: ingress-0, namespace: tests, annotations: {{ {} }} }}", annotations.join(", "));
    manifest(&[("", "/", backend)]).replace("metadata: { name: ingress-0, namespace: tests }", &named)
}

pub fn h2c(settings: &mut Settings) {
    settings.h2c = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
}

pub fn to(backend: SocketAddr, annotations: &[(&str, &str)]) -> Proxy {
    Proxy::with(&annotated(backend, annotations), h2c)
}

/// One whose authority is in Secret `ca`.
fn believing(backend: SocketAddr, issued: &Issued, annotations: &[(&str, &str)]) -> Proxy {
    let annotations = [&[("backend-ca-secret", "ca")], annotations].concat();
    Proxy::with(&(annotated(backend, &annotations) + &secret("tests", "ca", issued)), h2c)
}

#[test]
fn a_request_in_http_1_1_becomes_one_in_http_2() {
    let backend = Http2Backend::plain(100);
    let proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let answer = client.exchange(
            "POST /a/../b%7e?q=1 HTTP/1.1\r\nHost: Shop.example:81\r\nTE: trailers\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        );
        let told = |name| answer.head.field(name).unwrap_or_default();
        assert_eq!((answer.status(), answer.text()), (200, "body"));
        assert_eq!((told("x-version"), told("x-method"), told("x-scheme")), ("2", "POST", "http"));
        assert_eq!((told("x-authority"), told("x-path")), ("Shop.example:81", "/b~?q=1"));
        let names: Vec<&str> = told("x-names").split(' ').collect();
        assert!(names.contains(&"x-end") && names.contains(&"x-forwarded-for") && names.contains(&"te"), "{names:?}");
        assert!(!["host", "x-hop", "connection", "transfer-encoding"].iter().any(|name| names.contains(name)), "{names:?}");
        assert_eq!(answer.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
    }
    assert_eq!((backend.connections(), backend.requests()), (1, 2));
}

#[test]
fn http_2_passes_from_end_to_end_with_its_trailers() {
    let backend = Http2Backend::plain(100);
    let proxy = to(backend.address, &[("backend-protocol", "grpc")]);
    let mut client = Http2::connect(proxy.addresses[1]);
    let mut call = client.begin(Request::post("http://a/x").header("te", "trailers").body(()).unwrap(), false);
    call.sending.send_data(Bytes::from("one"), false).unwrap();
    let mut answer = client.head(call.response).unwrap();
    assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "one", "before the request has ended");
    call.sending.send_data(Bytes::from("two"), false).unwrap();
    assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "two");
    let trailers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    };
    call.sending.send_trailers(trailers(&[("x-sum", "1")])).unwrap();
    assert!(client.wait(answer.body_mut().data()).is_none());
    assert_eq!(client.wait(answer.body_mut().trailers()).unwrap().unwrap(), trailers(&[("x-sum", "1"), ("grpc-status", "0")]));
}

#[test]
fn requests_share_connections_as_far_as_the_backend_allows() {
    let backend = Http2Backend::plain(10);
    let proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    let mut client = Http2::connect(proxy.addresses[1]);
    // So that it is known how many are allowed.
    client.get("http://a/");
    let calls: Vec<_> = (0..TOGETHER).map(|_| client.begin(Request::get("http://a/together").body(()).unwrap(), true).response).collect();
    for answer in client.answers(calls) {
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(backend.used(), 4, "ten on each");
    for _ in 0..20 {
        client.get("http://a/");
    }
    assert_eq!(backend.connections(), 4);
    assert_eq!(proxy.numbers().upstream_open, 4);
}

#[test]
fn a_request_that_is_refused_unread_is_sent_again() {
    let backend = Http2Backend::plain(100);
    let proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    let mut client = Http2::connect(proxy.addresses[1]);
    client.get("http://a/");
    backend.refuse(2);
    assert_eq!(client.get("http://a/").status(), 200);
    assert_eq!((backend.requests(), proxy.numbers().retries), (2, 2));
    // Whatever it would do.
    backend.refuse(2);
    assert_eq!(proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status(), 200);
    assert_eq!((backend.requests(), proxy.numbers().retries), (3, 4));
    // One that the backend has looked at isn't, nor one whose body is gone.
    client.get("http://a/reset").assert_own(502, "upstream_reset");
    assert_eq!(backend.requests(), 4);
    backend.refuse(1);
    proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").assert_own(502, "upstream_reset");
    assert_eq!((backend.requests(), backend.connections()), (4, 1), "the connection goes on");
}

/// A Service whose pods speak HTTP/2.
fn pods(pods: &[SocketAddr]) -> String {
    let pods: Vec<_> = pods.iter().copied().map(Endpoint::Ready).collect();
    let yaml = service(Service::Headless, &pods);
    yaml.replace("namespace: tests, annotations: {  }", "namespace: tests, annotations: { nodegate.dev/backend-protocol: h2c }")
}

#[test]
fn a_request_that_a_pod_refuses_goes_to_another_one() {
    let (refusing, fine) = (Http2Backend::plain(100), Http2Backend::plain(100));
    let proxy = Proxy::with(&pods(&[refusing.address, fine.address]), h2c);
    let mut client = Http2::connect(proxy.addresses[1]);
    refusing.refuse(usize::MAX);
    // One of the two is always less busy: the one that refuses.
    let calls: Vec<_> = (0..40).map(|_| client.begin(Request::get("http://a/").body(()).unwrap(), true).response).collect();
    for answer in client.answers(calls) {
        assert_eq!(answer.status(), 200);
    }
    assert_eq!((refusing.requests(), fine.requests()), (0, 40));
    assert!(proxy.numbers().retries > 0, "the premise: some were refused");
}

#[test]
fn a_request_that_comes_after_a_farewell_is_sent_again() {
    // Two connections end with the first request, which they haven't looked at.
    let connections = AtomicUsize::new(0);
    let backend = Backend::start().serve_each(move |_, wire| {
        let mut server = Frames { wire };
        server.wire.up_to(PREFACE.len());
        server.send(SETTINGS, 0, 0, &[]);
        let leaves = connections.fetch_add(1, Ordering::Relaxed) < 2;
        while let Some(Frame { kind, stream, .. }) = server.next() {
            match kind {
                HEADERS if leaves => return server.send(GOAWAY, 0, 0, &[0; 8]),
                HEADERS => server.send(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]),
                _ => {}
            }
        }
    });
    let proxy = to(backend, &[("backend-protocol", "h2c")]);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(proxy.exchange(post).status(), 200);
    assert_eq!((proxy.numbers().retries, proxy.numbers().upstream_dials), (2, 3));
    assert_eq!(proxy.exchange(post).status(), 200, "on the third connection");
}

#[test]
fn a_request_that_was_begun_before_a_farewell_is_not() {
    let backend = Backend::start().serve_each(|_, wire| {
        let mut server = Frames { wire };
        server.wire.up_to(PREFACE.len());
        server.send(SETTINGS, 0, 0, &[]);
        while server.next().is_some_and(|frame| frame.kind != HEADERS) {}
        server.send(GOAWAY, 0, 0, &[1_u32.to_be_bytes(), [0; 4]].concat());
    });
    let proxy = to(backend, &[("backend-protocol", "h2c")]);
    proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").assert_own(502, "upstream_reset");
    assert_eq!((proxy.numbers().retries, proxy.numbers().upstream_dials), (0, 1));
}

#[test]
fn a_connection_that_is_told_to_go_gets_no_new_requests() {
    let backend = Http2Backend::plain(100);
    let proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    let mut client = proxy.connect();
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for connections in 1..4 {
        assert_eq!(client.exchange(get).status(), 200);
        assert_eq!(backend.connections(), connections);
        backend.leave();
        proxy.wait_for(|numbers| numbers.upstream_open == 0);
    }
}

#[test]
fn a_backend_that_refuses_connections_is_502_for_all_who_wait() {
    let refusing = Refusing::start();
    let proxy = to(refusing.address(), &[("backend-protocol", "h2c")]);
    let mut client = Http2::connect(proxy.addresses[1]);
    let calls: Vec<_> = (0..20).map(|_| client.begin(Request::get("http://a/").body(()).unwrap(), true).response).collect();
    for answer in client.answers(calls) {
        answer.assert_own(502, "upstream_connect");
    }
}

#[test]
fn a_backend_that_speaks_no_http_2_is_502() {
    let backend = Backend::start().serve("ok");
    let proxy = to(backend, &[("backend-protocol", "h2c")]);
    let answer = proxy.get("a", "/");
    assert_eq!(answer.status(), 502);
}

#[test]
fn a_handshake_chooses_the_version() {
    let issued = issue(&PKCS_ECDSA_P256_SHA256, &["service-0.tests.svc"]);
    for (offers, protocol, version) in
        [(&["h2", "http/1.1"][..], "https", "2"), (&["http/1.1"], "https", "1.1"), (&[], "https", "1.1"), (&["h2"], "grpcs", "2")]
    {
        let backend = Http2Backend::secure(&issued, offers);
        let proxy = believing(backend.address, &issued, &[("backend-protocol", protocol)]);
        let mut client = proxy.connect();
        for _ in 0..3 {
            let answer = client.exchange("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(
                (answer.status(), answer.head.field("x-version"), answer.head.field("x-path")),
                (200, Some(version), Some("/x")),
                "{offers:?}"
            );
        }
        assert_eq!((backend.connections(), backend.requests()), (1, 3), "{offers:?}");
        assert_eq!(backend.names(), [Some("service-0.tests.svc".to_owned())]);
    }
    // One that can't speak what it has to.
    let backend = Http2Backend::secure(&issued, &["http/1.1"]);
    let proxy = believing(backend.address, &issued, &[("backend-protocol", "grpcs")]);
    proxy.get("a", "/").assert_own(502, "upstream_connect");
}

#[test]
fn a_backend_that_can_t_prove_who_it_is_gets_no_request() {
    let (issued, other) = (
        issue(&PKCS_ECDSA_P256_SHA256, &["service-0.tests.svc", "inside.example"]),
        issue(&PKCS_ECDSA_P256_SHA256, &["service-0.tests.svc"]),
    );
    let own = Http2Backend::secure(&issued, &["h2"]);
    for (label, proxy, expected) in [
        ("its own authority", believing(own.address, &issued, &[("backend-protocol", "https")]), 200),
        (
            "another name that it has",
            believing(own.address, &issued, &[("backend-protocol", "https"), ("backend-server-name", "inside.example")]),
            200,
        ),
        (
            "a name that it hasn't",
            believing(own.address, &issued, &[("backend-protocol", "https"), ("backend-server-name", "b.example")]),
            502,
        ),
        ("another authority", believing(own.address, &other, &[("backend-protocol", "https")]), 502),
        ("public authorities", to(own.address, &[("backend-protocol", "https")]), 502),
        ("whoever it is", to(own.address, &[("backend-protocol", "https"), ("backend-tls-verify", "off")]), 200),
    ] {
        let before = own.requests();
        let answer = proxy.get("a", "/");
        assert_eq!(answer.status(), expected, "{label}");
        assert_eq!(own.requests() - before, usize::from(expected == 200), "{label}");
    }
}

#[test]
fn a_websocket_passes_to_a_backend_with_tls() {
    let issued = issue(&PKCS_ECDSA_P256_SHA256, &["service-0.tests.svc"]);
    // It would speak HTTP/2, too, in which there is no upgrade.
    let backend = Http2Backend::secure(&issued, &["h2", "http/1.1"]);
    let proxy = believing(backend.address, &issued, &[("backend-protocol", "https")]);
    assert_eq!(proxy.get("a", "/").head.field("x-version"), Some("2"));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    assert_eq!(client.head().status(), 101);
    client.send("ping");
    client.until(b"ping");
}

#[test]
fn connections_that_rest_are_closed() {
    let backend = Http2Backend::plain(100);
    let proxy = Proxy::with(&annotated(backend.address, &[("backend-protocol", "h2c")]), |settings| {
        settings.limits.pool_idle_timeout = Duration::from_millis(300);
    });
    assert_eq!(proxy.get("a", "/").status(), 200);
    assert_eq!(proxy.numbers().upstream_idle, 1);
    proxy.wait_for(|numbers| numbers.upstream_open == 0);
    assert_eq!(proxy.get("a", "/").status(), 200);
    assert_eq!(backend.connections(), 2);
}

#[test]
fn clients_that_take_nothing_keep_nobody_else_waiting() {
    let backend = Http2Backend::plain(100);
    let proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    // Its windows are closed, and stay so.
    let mut stuck = Frames::connect(proxy.addresses[1], &[(4, 0)]);
    let big = fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/big"), (":authority", "a")]);
    for stream in (1..41).step_by(2) {
        stuck.send(HEADERS, END_STREAM | END_HEADERS, stream, &big);
        stuck.until(HEADERS, stream);
    }
    let mut client = Http2::connect(proxy.addresses[1]);
    assert_eq!(client.get("http://a/big").body.len(), BIG);
    assert_eq!(backend.connections(), 1, "on the same connection");
}

#[test]
fn pods_that_are_gone_cost_others_little() {
    let live = Http2Backend::plain(100);
    let (silent, refusing) = (Silent::start(), Refusing::start());
    for (label, gone) in [("silent", silent.address()), ("refusing", refusing.address())] {
        let before = live.connections();
        let proxy = Proxy::with(&pods(&[live.address, gone]), h2c);
        let mut client = Http2::connect(proxy.addresses[1]);
        for _ in 0..3 {
            let calls: Vec<_> = (0..60).map(|_| client.begin(Request::get("http://a/").body(()).unwrap(), true).response).collect();
            for answer in client.answers(calls) {
                assert_eq!(answer.status(), 200, "{label}");
            }
        }
        let opened = live.connections() - before;
        assert!(opened <= 4, "{label}: {opened} connections to the one that is there");
    }
}

#[test]
fn a_response_that_is_cut_off_without_an_error_is_none_that_is_whole() {
    let backend = Http2Backend::plain(100);
    let mut proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    let mut client = Http2::connect(proxy.addresses[1]);
    let call = client.begin(Request::get("http://a/cut").body(()).unwrap(), true);
    let mut answer = client.head(call.response).unwrap();
    assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "part");
    backend.cut();
    let error = client.wait(answer.body_mut().data()).unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    assert_eq!(proxy.record()["reason"], "upstream_reset");
    let mut wire = proxy.connect();
    wire.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.until(b"part\r\n");
    backend.cut();
    wire.expect_end();
}

#[test]
fn an_early_answer_ends_the_upload_and_not_the_connection() {
    let backend = Http2Backend::plain(100);
    let proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    let mut client = Http2::connect(proxy.addresses[1]);
    for round in 1..4 {
        let mut call = client.begin(Request::post("http://a/early").body(()).unwrap(), false);
        // It may be answered, and reset, before this.
        let _ = call.sending.send_data(Bytes::from("part"), false);
        assert_eq!(client.answer(call.response).unwrap().text(), "no!");
        let reset = client.wait(std::future::poll_fn(|cx| call.sending.poll_reset(cx))).unwrap();
        assert_eq!(reset, Reason::NO_ERROR);
        eventually("the backend hears of it", || (backend.stopped() == round).then_some(()));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_early_answer_arrives_although_the_backend_closes_on_the_upload() {
    let issued = issue(&PKCS_ECDSA_P256_SHA256, &["service-0.tests.svc"]);
    let backend = Http2Backend::secure(&issued, &["http/1.1"]);
    let proxy = believing(backend.address, &issued, &[("backend-protocol", "https")]);
    for _ in 0..10 {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
        // As much as anybody takes.
        let _ = client.try_send(vec![0; 3_000_000]);
        let answer = client.message();
        assert_eq!((answer.status(), answer.text()), (413, "no!"));
    }
}

#[test]
fn a_response_that_ends_in_an_empty_piece_is_whole() {
    let backend = Http2Backend::plain(100);
    let proxy = to(backend.address, &[("backend-protocol", "h2c")]);
    assert_eq!(Http2::connect(proxy.addresses[1]).get("http://a/empty-end").text(), "all");
    let answer = proxy.get("a", "/empty-end");
    assert!(answer.complete && answer.text() == "all", "{answer:?}");
}

#[test]
fn an_early_answer_is_whole_although_the_upload_is_reset_with_it() {
    let backend = Backend::start().serve_each(|_, wire| {
        let mut server = Frames { wire };
        server.wire.up_to(PREFACE.len());
        server.send(SETTINGS, 0, 0, &[]);
        while let Some(Frame { kind, stream, .. }) = server.next() {
            if kind != HEADERS {
                continue;
            }
            // As Go's server does, in one segment.
            let head = [&[0x88][..], &fields(&[("content-length", "2")])].concat();
            let [head, body, reset] = [(HEADERS, END_HEADERS, &head[..]), (DATA, END_STREAM, b"no"), (RST_STREAM, 0, &[0; 4])]
                .map(|(kind, flags, payload)| frame(kind, flags, stream, payload));
            server.wire.send([head, body, reset].concat());
        }
    });
    let proxy = to(backend, &[("backend-protocol", "h2c")]);
    let mut client = Http2::connect(proxy.addresses[1]);
    let call = client.begin(Request::post("http://a/").body(()).unwrap(), false);
    assert_eq!(client.answer(call.response).unwrap().text(), "no");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    assert_eq!(client.message().text(), "no");
}

#[test]
fn an_upload_that_a_backend_does_not_read_ends_with_its_client() {
    // More than the backend has a window for, of as many as it takes at a time.
    let (streams, size) = (10, 200_000);
    for over_http2 in [false, true] {
        let backend = Http2Backend::plain(streams);
        let proxy = Proxy::with(&annotated(backend.address, &[("backend-protocol", "h2c")]), |settings| {
            h2c(settings);
            // Over HTTP/1.1 nobody reads so far as to where the client has closed: then it is the response that doesn't come.
            settings.limits.response_idle_timeout = if over_http2 { Duration::from_hours(1) } else { Duration::from_secs(1) };
        });
        for _ in 0..streams {
            if over_http2 {
                let mut client = Http2::connect(proxy.addresses[1]);
                let mut call = client.begin(Request::post("http://a/lazy").body(()).unwrap(), false);
                call.sending.send_data(vec![0; size].into(), false).unwrap();
                assert_eq!(client.head(call.response).unwrap().status(), 200);
            } else {
                let mut client = proxy.connect();
                client.send("POST /lazy HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
                client.send(vec![0; size]);
                client.until(b"part\r\n");
            }
        }
        eventually("the backend hears that nobody wants them", || (backend.stopped() == streams as usize).then_some(()));
        assert_eq!(proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status(), 200, "there is room again");
        proxy.wait_for(|numbers| (numbers.connections_open, numbers.active_requests) == (0, 0));
        assert_eq!(backend.connections(), 1);
    }
}
