//! HTTP/2 clients that ask for much and bring nothing, or say what can't be: each has an end, and costs backends no more than so many requests.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nodegate::config::limits::{HTTP2_IDLE_FRAMES, HTTP2_RESETS, HTTP2_STREAM_ERRORS, HTTP2_STREAMS};

use crate::support::{
    Backend, Http2, PATIENCE, Proxy, Wire, eventually,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GET_FIELDS, HEADERS, PING, POST_FIELDS, PREFACE, PRIORITY,
        PROTOCOL_ERROR, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame, hpack_bomb,
    },
};

/// A backend that counts the requests it is sent, and answers them after a while.
fn counting(delay: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = Backend::start().serve_each(move |_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            wire.head();
            counted.fetch_add(1, Ordering::Relaxed);
            // How long a service takes, during which a client may change its mind.
            thread::park_timeout(delay);
            if wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    (address, count)
}

fn proxy(backend: SocketAddr) -> (Proxy, SocketAddr) {
    let proxy = Proxy::to_with(backend, |settings| {
        settings.h2c = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        // It isn't time that ends them.
        settings.limits.header_read_timeout = Duration::from_hours(1);
        settings.limits.body_idle_timeout = Duration::from_hours(1);
        settings.limits.keep_alive_timeout = Duration::from_hours(1);
    });
    let address = proxy.addresses[1];
    (proxy, address)
}

/// Sends so many, unless the server reads no more before.
fn send_until_ended(client: &mut Frames, most: usize, mut next: impl FnMut(usize) -> Vec<u8>) {
    let _ = (0..most).all(|index| client.try_send(&next(index)));
}

fn stream(index: usize) -> u32 {
    u32::try_from(2 * index + 1).unwrap()
}

#[test]
fn frames_that_bring_nothing_have_an_end() {
    let (backend, count) = counting(Duration::ZERO);
    let (proxy, address) = proxy(backend);
    let one = |kind, flags, stream, payload: &[u8]| frame(kind, flags, stream, payload);
    let mut ended = 0;
    for (label, flood) in [
        ("PING", one(PING, 0, 0, &[0; 8])),
        ("answers to no PING", one(PING, 1, 0, &[0; 8])),
        ("SETTINGS", one(SETTINGS, 0, 0, &[])),
        ("SETTINGS that change the window", one(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("PRIORITY", one(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", one(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("frames that nobody knows", one(0x55, 0, 1, &[0; 100])),
    ] {
        let mut client = Frames::connect(address, &[]);
        client.get(1);
        client.until(DATA, 1);
        // It may have ended before it has taken all of them.
        send_until_ended(&mut client, 20, |_| flood.repeat(HTTP2_IDLE_FRAMES as usize));
        ended += 1;
        eventually(label, || {
            let numbers = proxy.numbers();
            ((numbers.http2_floods, numbers.connections_open) == (ended, 0)).then_some(())
        });
    }
    assert_eq!(count.load(Ordering::Relaxed) as u64, ended);
}

#[test]
fn the_end_of_a_flood_is_explained() {
    let (backend, _) = counting(Duration::ZERO);
    let (_proxy, address) = proxy(backend);
    let mut client = Frames::connect(address, &[]);
    client.wire.send(frame(PING, 0, 0, &[0; 8]).repeat(HTTP2_IDLE_FRAMES as usize + 1));
    assert_eq!(client.goaway(), (0, ENHANCE_YOUR_CALM));
    client.wire.expect_end();
}

#[test]
fn a_busy_client_may_ping_and_update_its_windows_as_often_as_it_has_reason_to() {
    let (backend, _) = counting(Duration::ZERO);
    let (proxy, address) = proxy(backend);
    let mut client = Frames::connect(address, &[]);
    for index in 0..4 * HTTP2_IDLE_FRAMES as usize {
        client.get(stream(index));
        client.until(DATA, stream(index));
        client.wire.send([frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 2]), frame(PING, 0, 0, &[0; 8])].concat());
    }
    assert!(client.is_alive());
    assert_eq!(proxy.numbers().http2_floods, 0);
}

#[test]
fn empty_pieces_of_a_body_have_an_end() {
    let (backend, _) = counting(Duration::ZERO);
    let (proxy, address) = proxy(backend);
    let mut client = Frames::connect(address, &[]);
    client.send(HEADERS, END_HEADERS, 1, &fields(&POST_FIELDS));
    send_until_ended(&mut client, 100, |_| frame(DATA, 0, 1, &[]).repeat(512));
    proxy.wait_for(|numbers| numbers.connections_open == 0);
}

#[test]
fn a_head_without_end_has_one() {
    let (backend, count) = counting(Duration::ZERO);
    let (proxy, address) = proxy(backend);
    for (label, payload) in [("empty", vec![]), ("full", fields(&[("x", "y".repeat(1000))]).repeat(16))] {
        let mut client = Frames::connect(address, &[]);
        client.send(HEADERS, END_STREAM, 1, &fields(&GET_FIELDS));
        send_until_ended(&mut client, 10_000, |_| frame(CONTINUATION, 0, 1, &payload));
        eventually(label, || (proxy.numbers().connections_open == 0).then_some(()));
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[test]
fn a_head_that_grows_when_it_is_unpacked_is_too_large() {
    let (backend, count) = counting(Duration::ZERO);
    let (_proxy, address) = proxy(backend);
    let mut client = Frames::connect(address, &[]);
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &hpack_bomb());
    assert_eq!(client.goaway(), (0, ENHANCE_YOUR_CALM));
    client.wire.expect_end();
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[test]
fn cookies_in_thousands_of_crumbs_are_too_large() {
    let (backend, count) = counting(Duration::ZERO);
    let (_proxy, address) = proxy(backend);
    let mut client = Http2::connect(address);
    let mut request = http::Request::get("http://a/").body(()).unwrap();
    for _ in 0..3000 {
        request.headers_mut().append("cookie", http::HeaderValue::from_static("a=1"));
    }
    assert_eq!(client.exchange(request).status(), 431);
    assert_eq!(client.get("http://a/").text(), "ok");
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[test]
fn requests_that_are_given_up_at_once_have_an_end() {
    let (backend, count) = counting(Duration::from_millis(50));
    let (proxy, address) = proxy(backend);
    let mut client = Frames::connect(address, &[]);
    let cancel = |index| frame(RST_STREAM, 0, stream(index), &8_u32.to_be_bytes());
    let get = |index| frame(HEADERS, END_STREAM | END_HEADERS, stream(index), &fields(&GET_FIELDS));
    // Each is let through before it is given up, which is the most expensive way.
    let sent = (0..10_000)
        .find(|&index| !client.try_send(&get(index)) || !client.is_alive() || !client.try_send(&cancel(index)))
        .expect("all were taken");
    let most = HTTP2_RESETS as usize + HTTP2_STREAMS as usize;
    assert!(sent <= most, "{sent}");
    assert!(count.load(Ordering::Relaxed) <= most, "{count:?}");
    proxy.wait_for(|numbers| (numbers.http2_floods, numbers.connections_open, numbers.active_requests) == (1, 0, 0));

    // All in one go.
    let mut client = Frames::connect(address, &[]);
    send_until_ended(&mut client, 10_000, |index| [get(index), cancel(index)].concat());
    proxy.wait_for(|numbers| (numbers.connections_open, numbers.active_requests) == (0, 0));
    assert!(count.load(Ordering::Relaxed) <= 2 * most, "{count:?}");
}

#[test]
fn a_client_may_give_requests_up_that_it_has_reason_to() {
    let (backend, _) = counting(Duration::ZERO);
    let (proxy, address) = proxy(backend);
    let mut client = Frames::connect(address, &[]);
    for index in 0..HTTP2_RESETS as usize {
        client.get(stream(2 * index));
        client.until(DATA, stream(2 * index));
        client.get(stream(2 * index + 1));
        client.send(RST_STREAM, 0, stream(2 * index + 1), &8_u32.to_be_bytes());
    }
    assert!(client.is_alive());
    assert_eq!(proxy.numbers().http2_floods, 0);
}

#[test]
fn streams_that_we_are_made_to_reset_have_an_end() {
    let (backend, count) = counting(Duration::from_millis(50));
    let (proxy, address) = proxy(backend);
    for (label, error) in [
        ("an update of nothing", (WINDOW_UPDATE, vec![0; 4])),
        ("a window too large", (WINDOW_UPDATE, vec![0x7f, 255, 255, 255])),
        ("a body behind the end", (DATA, b"x".to_vec())),
    ] {
        count.store(0, Ordering::Relaxed);
        let mut client = Frames::connect(address, &[]);
        let sent = (0..10_000).find(|&index| {
            let get = frame(HEADERS, END_STREAM | END_HEADERS, stream(index), &fields(&GET_FIELDS));
            !client.try_send(&get) || !client.is_alive() || !client.try_send(&frame(error.0, 0, stream(index), &error.1))
        });
        let most = HTTP2_STREAM_ERRORS + HTTP2_STREAMS as usize;
        assert!(sent.is_some_and(|sent| sent <= most), "{label}: {sent:?}");
        assert!(count.load(Ordering::Relaxed) <= most, "{label}: {count:?}");
        proxy.wait_for(|numbers| (numbers.connections_open, numbers.active_requests) == (0, 0));
    }
}

#[test]
fn what_is_no_request_never_reaches_a_backend() {
    let (backend, count) = counting(Duration::ZERO);
    let (_proxy, address) = proxy(backend);
    let with = |name: &'static str, value: &'static str| {
        GET_FIELDS.iter().map(|(known, old)| if *known == name { (*known, value) } else { (*known, *old) }).collect::<Vec<_>>()
    };
    let mut good = 0;
    let and = |name: &'static str, value: &'static str| [&GET_FIELDS[..], &[(name, value)]].concat();
    // What can't even be unpacked ends the connection; what is no request ends its stream alone.
    let (unpacked, request) = (false, true);
    for (label, head, goes_on) in [
        ("a line end in a value", and("x", "a\r\nhost: b"), unpacked),
        ("a line end alone", and("x", "a\nb"), unpacked),
        ("a zero byte", and("x", "a\0b"), unpacked),
        ("a line end in a name", and("x\r\ny", "a"), unpacked),
        ("a space in a name", and("x y", "a"), unpacked),
        ("upper case", and("X", "a"), unpacked),
        ("a pseudo-header that nobody knows", and(":x", "a"), unpacked),
        ("a line end in the method", with(":method", "GET / HTTP/1.1\r\nx: y\r\n\r\nGET"), unpacked),
        ("a pseudo-header behind the others", and(":path", "/other"), request),
        ("that of a response", and(":status", "200"), request),
        ("a connection's field", and("connection", "close"), request),
        ("a coding", and("transfer-encoding", "chunked"), request),
        ("an upgrade", and("upgrade", "h2c"), request),
        ("trailers and more", and("te", "trailers, gzip"), request),
        ("a length without a body", and("content-length", "5"), request),
        ("two lengths", [&and("content-length", "0")[..], &[("content-length", "1")]].concat(), request),
        ("no length", and("content-length", "x"), request),
        ("a line end in the path", with(":path", "/a\r\nx: b"), request),
        ("a space in the path", with(":path", "/a b HTTP/1.1"), request),
        ("no path", with(":path", ""), request),
        ("a space in the authority", with(":authority", "a b"), request),
        ("a line end in the authority", with(":authority", "a\r\nx: y"), request),
        ("a protocol without CONNECT", and(":protocol", "websocket"), request),
    ] {
        let mut client = Frames::connect(address, &[]);
        client.send(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&head));
        if goes_on {
            assert_eq!(client.reset(1), PROTOCOL_ERROR, "{label}");
            client.get(3);
            assert_eq!(client.until(DATA, 3).payload, b"ok", "{label}: the connection goes on");
            good += 1;
        } else {
            assert_eq!(client.goaway(), (0, PROTOCOL_ERROR), "{label}");
        }
    }
    assert_eq!(count.load(Ordering::Relaxed), good, "the good ones alone");
}

#[test]
fn who_speaks_something_else_is_told_so() {
    let (backend, count) = counting(Duration::ZERO);
    let (proxy, address) = proxy(backend);
    for (label, words) in [
        ("HTTP/1.1", &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]),
        ("nearly the preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX and more"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ] {
        let mut wire = Wire::connect(address);
        wire.send(words);
        let mut client = Frames { wire };
        assert_eq!(client.goaway(), (0, PROTOCOL_ERROR), "{label}");
        client.wire.expect_end();
    }
    // The preface, and then not the settings.
    let mut wire = Wire::connect(address);
    wire.send([PREFACE, &frame(PING, 0, 0, &[0; 8])].concat());
    assert_eq!(Frames { wire }.goaway().1, PROTOCOL_ERROR);
    proxy.wait_for(|numbers| numbers.connections_open == 0);
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[test]
fn a_download_whose_client_tells_of_each_piece_twice_is_no_flood() {
    let size = 100 << 20;
    let backend = Backend::start().serve_each(move |_, mut wire| {
        wire.head();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
        wire.send_zeros(size);
    });
    let (proxy, address) = proxy(backend);
    let mut client = Frames::connect(address, &[]);
    client.get(1);
    let mut got = 0;
    while got < size {
        let piece = client.until(DATA, 1).payload.len();
        got += piece;
        let update = u32::try_from(piece).unwrap().to_be_bytes();
        client.wire.send([frame(WINDOW_UPDATE, 0, 0, &update), frame(WINDOW_UPDATE, 0, 1, &update)].concat());
    }
    assert_eq!(proxy.numbers().http2_floods, 0);
}
