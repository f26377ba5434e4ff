//! HTTP/2 clients that are slow, silent, or gone: each wait has an end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use nodegate::proxy::Settings;

use crate::support::{
    Backend, PATIENCE, Proxy, Wire,
    frames::{
        ACK, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GET_FIELDS, HEADERS, NO_ERROR, PING, POST_FIELDS, PREFACE,
        PROTOCOL_ERROR, RST_STREAM, WINDOW_UPDATE, fields, frame,
    },
};

const SHORT: Duration = Duration::from_millis(300);
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW: u16 = 4;

/// More than any kernel takes on a connection's way.
const ENDLESS: usize = 64 << 20;

fn proxy(backend: SocketAddr, change: impl FnOnce(&mut Settings)) -> (Proxy, SocketAddr) {
    let proxy = Proxy::to_with(backend, |settings| {
        settings.h2c = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        change(settings);
    });
    let address = proxy.addresses[1];
    (proxy, address)
}

#[test]
fn a_preface_has_to_be_there_in_time() {
    let backend = Backend::start().serve("ok");
    let (proxy, address) = proxy(backend, |settings| settings.limits.header_read_timeout = SHORT);
    for words in [&b""[..], &PREFACE[..20]] {
        let mut wire = Wire::connect(address);
        wire.send(words);
        wire.expect_end();
    }
    // The preface alone, a part of what follows it, and a part of a head.
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 255, 255]);
    let get = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&GET_FIELDS));
    for words in [[PREFACE, &settings[..3]].concat(), [PREFACE, &settings, &get[..20]].concat()] {
        let mut wire = Wire::connect(address);
        wire.send(words);
        let mut client = Frames { wire };
        assert_eq!(client.goaway().1, PROTOCOL_ERROR);
        client.wire.expect_end();
    }
    assert_eq!(proxy.numbers().request_timeouts, 4);
}

#[test]
fn a_head_in_pieces_has_to_be_there_in_time() {
    let backend = Backend::start().serve("ok");
    let (proxy, address) = proxy(backend, |settings| settings.limits.header_read_timeout = SHORT);
    let mut client = Frames::connect(address, &[]);
    client.get(1);
    client.until(DATA, 1);
    client.send(HEADERS, END_STREAM, 3, &fields(&GET_FIELDS));
    assert_eq!(client.goaway(), (1, PROTOCOL_ERROR));
    client.wire.expect_end();
    assert_eq!(proxy.numbers().request_timeouts, 1);
}

#[test]
fn an_idle_connection_is_left_in_peace_and_then_told_to_go() {
    let backend = Backend::start().serve("ok");
    let (proxy, address) = proxy(backend, |settings| settings.limits.keep_alive_timeout = Duration::from_secs(1));
    let mut client = Frames::connect(address, &[]);
    let start = Instant::now();
    client.get(1);
    client.until(DATA, 1);
    // What is no request doesn't keep it.
    assert!(client.is_alive());
    assert_eq!(client.goaway(), (0x7fff_ffff, NO_ERROR));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    // A request that was on its way is served.
    client.get(3);
    client.until(DATA, 3);
    client.send(PING, ACK, 0, &[0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54]);
    assert_eq!(client.goaway(), (3, NO_ERROR));
    client.wire.expect_end();
    assert_eq!(proxy.numbers().keep_alive_timeouts, 1);
}

#[test]
fn pings_do_not_keep_a_connection() {
    let backend = Backend::start().serve("ok");
    let (_proxy, address) = proxy(backend, |settings| settings.limits.keep_alive_timeout = Duration::from_secs(1));
    let mut client = Frames::connect(address, &[]);
    let start = Instant::now();
    while client.is_alive() {
        assert!(start.elapsed() < PATIENCE, "it is alive for ever");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn who_does_not_answer_a_farewell_is_left() {
    let backend = Backend::start().serve("ok");
    let (proxy, address) = proxy(backend, |settings| settings.limits.keep_alive_timeout = SHORT);
    let mut client = Frames::connect(address, &[]);
    assert_eq!(client.goaway(), (0x7fff_ffff, NO_ERROR));
    assert_eq!(client.goaway(), (0, NO_ERROR));
    client.wire.expect_end();
    proxy.wait_for(|numbers| numbers.connections_open == 0);
}

#[test]
fn a_client_without_room_for_an_answer_holds_its_backend_no_longer_than_others() {
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address(), |settings| settings.limits.write_stall_timeout = SHORT);
    let mut client = Frames::connect(address, &[(INITIAL_WINDOW, 0)]);
    let streams = [1, 3, 5, 7];
    let mut upstreams: Vec<_> = streams
        .iter()
        .map(|&stream| {
            client.get(stream);
            let mut upstream = backend.accept();
            upstream.message();
            upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\n\r\n"));
            upstream
        })
        .collect();
    for upstream in &mut upstreams {
        let taken = upstream.send_until_stuck(ENDLESS);
        assert!(taken < ENDLESS, "everything was taken");
        upstream.is_reset();
    }
    for stream in streams {
        assert_eq!(client.reset(stream), ENHANCE_YOUR_CALM);
    }
    assert!(client.is_alive(), "the connection goes on");
    assert_eq!((proxy.numbers().write_stalls, proxy.numbers().active_requests), (4, 0));
}

#[test]
fn a_client_that_takes_a_trickle_holds_its_backend_no_longer_than_others() {
    let backend = Backend::start();
    let (proxy, address) = proxy(backend.address(), |settings| {
        settings.limits.body_rate_grace = Duration::from_millis(500);
        settings.limits.body_min_rate = 1000;
    });
    let mut client = Frames::connect(address, &[(INITIAL_WINDOW, 0)]);
    client.get(1);
    let mut upstream = backend.accept();
    upstream.message();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n");
    upstream.send(vec![0; 65536]);
    let start = Instant::now();
    let code = 'slow: loop {
        client.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
        // The client's pace.
        std::thread::park_timeout(Duration::from_millis(50));
        while !client.is_silent(Duration::from_millis(1)) {
            let frame = client.next().expect("the connection goes on");
            if frame.kind == RST_STREAM {
                break 'slow u32::from_be_bytes(frame.payload.try_into().unwrap());
            }
        }
        assert!(start.elapsed() < PATIENCE, "it goes on for ever");
    };
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(upstream.is_reset() || upstream.ended());
    assert_eq!(proxy.numbers().write_stalls, 1);
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let backend = Backend::start();
    let (mut proxy, address) = proxy(backend.address(), |settings| settings.limits.body_idle_timeout = SHORT);
    let mut client = Frames::connect(address, &[]);
    client.send(HEADERS, END_HEADERS, 1, &fields(&POST_FIELDS));
    client.send(DATA, 0, 1, b"part");
    let mut upstream = backend.accept();
    upstream.until(b"part");
    client.until(HEADERS, 1);
    let record = proxy.record();
    assert_eq!((&record["status"], &record["reason"]), (&408.into(), &"client_timeout".into()));
    // Part of another frame doesn't count as progress.
    client.send(HEADERS, END_HEADERS, 3, &fields(&POST_FIELDS));
    client.wire.send(&frame(DATA, 0, 3, &[0; 1000])[..500]);
    client.until(HEADERS, 3);
    assert_eq!(proxy.record()["status"], 408);
}

#[test]
fn a_client_that_reads_nothing_at_all_is_left() {
    let backend = Backend::start().serve_each(|_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            wire.message();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 16777216\r\n\r\n");
            wire.send_until_stuck(16 << 20);
        }
    });
    let (proxy, address) = proxy(backend, |settings| settings.limits.write_stall_timeout = SHORT);
    let mut client = Frames::connect(address, &[(INITIAL_WINDOW, 0x7fff_ffff)]);
    client.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    client.get(1);
    proxy.wait_for(|numbers| numbers.write_stalls == 1 && numbers.connections_open == 0 && numbers.active_requests == 0);
}
