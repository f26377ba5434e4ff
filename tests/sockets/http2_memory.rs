//! What clients of HTTP/2 can make the process hold: each has a bound, with many connections, streams, and fields.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    iter,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use nodegate::config::limits::{HTTP2_IDLE_FRAMES, HTTP2_STREAM_WINDOW_BYTES};

use crate::support::{
    Backend, Http2Backend, Nodegate, PATIENCE,
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET_FIELDS, HEADERS, PING, POST_FIELDS, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, fields, frame, hpack_bomb, remembered,
    },
    manifest, within,
};

const CONNECTIONS: usize = 40;
/// More fields than HPACK's table of 4,096 bytes has room for.
const EXCHANGES: u32 = 120;
/// As much as a read of a socket takes: each field comes in a buffer of its own.
const BODY: usize = 8000;

/// What a connection may take, a debug build's tasks and all: two tables of 4,096 bytes are the least of it. Each field's buffer would be a megabyte.
const MOST: u64 = 128 << 10;

/// What a connection may take that floods the process, its buffers and all.
const MOST_OF_A_FLOOD: u64 = 512 << 10;
const INITIAL_WINDOW: u16 = 4;
/// Most of what a connection may have under way.
const UPLOADS: usize = 100;
/// More than the kernel takes on a connection's way.
const LARGE: usize = 16 << 20;
const BLOCK: usize = 64 << 10;

fn nodegate(backend: SocketAddr) -> (Nodegate, SocketAddr) {
    let nodegate = Nodegate::serve(&manifest(&[("", "/", backend)]), &["--h2c", "127.0.0.1:0"]);
    let h2c = nodegate.at("h2c");
    (nodegate, h2c)
}

/// As [`manifest`], and the first of the backends speaks HTTP/2.
fn over_http2(routes: &[(&str, &str, SocketAddr)]) -> String {
    let named = "metadata: { name: ingress-0, namespace: tests, annotations: { nodegate.dev/backend-protocol: h2c } }";
    manifest(routes).replace("metadata: { name: ingress-0, namespace: tests }", named)
}

/// A backend whose answers differ in a field, and have a body.
fn backend() -> SocketAddr {
    Backend::start().serve_each(|_, mut wire| {
        let mut number = 0;
        while wire.stirs(PATIENCE) && !wire.ended() {
            wire.message();
            number += 1;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\nX-Number: {number}\r\n\r\n{:BODY$}", "");
            if wire.try_send(&answer).is_err() {
                return;
            }
        }
    })
}

/// What the process grows by for each of [`CONNECTIONS`] that do this, and are kept.
fn growth(nodegate: &Nodegate, address: SocketAddr, mut each: impl FnMut(&mut Frames)) -> u64 {
    let mut connect = || {
        let mut client = Frames::connect(address, &[(INITIAL_WINDOW, 1 << 30)]);
        client.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        each(&mut client);
        client
    };
    // What is made once.
    drop((0..4).map(|_| connect()).collect::<Vec<_>>());
    let before = nodegate.memory();
    let kept: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    let grown = nodegate.memory().saturating_sub(before) / kept.len() as u64;
    println!("{grown} bytes for each connection");
    grown
}

#[test]
fn fields_of_answers_that_are_remembered_keep_nothing_else() {
    let (nodegate, address) = nodegate(backend());
    let grown = growth(&nodegate, address, |client| {
        for stream in (1..).step_by(2).take(EXCHANGES as usize) {
            client.get(stream);
            client.end_of(stream);
        }
    });
    assert!(grown < MOST, "{grown} bytes");
}

#[test]
fn fields_of_requests_that_are_remembered_have_a_bound() {
    let (nodegate, address) = nodegate(backend());
    let grown = growth(&nodegate, address, |client| {
        for stream in (1..).step_by(2).take(EXCHANGES as usize) {
            let block = [fields(&POST_FIELDS), remembered("x", stream.to_string())].concat();
            client.send(HEADERS, END_HEADERS, stream, &block);
            client.send(DATA, END_STREAM, stream, &[0; BODY]);
            client.end_of(stream);
        }
    });
    assert!(grown < MOST, "{grown} bytes");
}

#[test]
fn floods_take_no_memory() {
    let (nodegate, address) = nodegate(backend());
    let get = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&GET_FIELDS));
    let crumbs = [fields(&GET_FIELDS), fields(&[("cookie", "a=1")]).repeat(3000)].concat();
    let streams = || (1..).step_by(2).take(2000);
    let open = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(&GET_FIELDS));
    let floods = [
        ("HPACK bomb", frame(HEADERS, END_STREAM | END_HEADERS, 1, &hpack_bomb())),
        ("cookies in crumbs", frame(HEADERS, END_STREAM | END_HEADERS, 1, &crumbs)),
        ("CONTINUATION", {
            let endless = frame(CONTINUATION, 0, 1, &fields(&[("x", "y".repeat(1000))]).repeat(16));
            [frame(HEADERS, END_STREAM, 1, &fields(&GET_FIELDS)), endless.repeat(1000)].concat()
        }),
        ("PING", [get.clone(), frame(PING, 0, 0, &[0; 8]).repeat(100 * HTTP2_IDLE_FRAMES as usize)].concat()),
        ("SETTINGS", [get, frame(SETTINGS, 0, 0, &[]).repeat(100 * HTTP2_IDLE_FRAMES as usize)].concat()),
        ("empty DATA", [frame(HEADERS, END_HEADERS, 1, &fields(&POST_FIELDS)), frame(DATA, 0, 1, &[]).repeat(100_000)].concat()),
        ("rapid reset", streams().flat_map(|stream| [open(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()).collect()),
        ("MadeYouReset", streams().flat_map(|stream| [open(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()).collect()),
    ];
    for (label, words) in floods {
        let before = nodegate.peak_memory();
        let mut clients: Vec<_> = (0..20)
            .map(|_| {
                let mut client = Frames::connect(address, &[]);
                // It may have ended before it has taken all of them.
                let _ = client.try_send(&words);
                client
            })
            .collect();
        // All of it was taken, or it has ended.
        for client in &mut clients {
            let _ = client.try_send(&frame(PING, 0, 0, b"the end!"));
            while client.next().is_some_and(|frame| frame.payload != b"the end!") {}
        }
        let grown = nodegate.peak_memory().saturating_sub(before) / clients.len() as u64;
        println!("{label}: {grown} bytes for each of {} connections, which sent {} bytes", clients.len(), words.len());
        assert!(grown < MOST_OF_A_FLOOD, "{label}: {grown} bytes");
    }
}

/// Asserts that so many streams are reset, each once.
#[track_caller]
fn expect_resets(client: &mut Frames, count: usize) {
    let resets = iter::from_fn(|| client.next()).filter(|frame| frame.kind == RST_STREAM).take(count);
    assert_eq!(resets.map(|frame| frame.stream).collect::<BTreeSet<_>>().len(), count, "each of them is reset");
}

#[test]
fn a_hundred_streams_without_a_window_keep_little_and_not_for_long() {
    let broken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&broken);
    let backend = Backend::start().serve_each(move |_, mut wire| {
        wire.head();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        let block = vec![0; BLOCK];
        let ended = (0..LARGE / BLOCK).find_map(|_| wire.try_send(&block).err());
        // By the proxy, in time.
        if ended.is_some_and(|error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let arguments = ["--h2c", "127.0.0.1:0", "--write-stall-timeout", "5s"];
    let nodegate = Nodegate::serve(&manifest(&[("", "/", backend)]), &arguments);
    let mut client = Frames::connect(nodegate.at("h2c"), &[(INITIAL_WINDOW, 0)]);
    let before = nodegate.peak_memory();
    let streams: Vec<u32> = (1..).step_by(2).take(100).collect();
    for &stream in &streams {
        client.get(stream);
    }
    expect_resets(&mut client, streams.len());
    within(PATIENCE, "no backend is kept", || (broken.load(Ordering::Relaxed) == streams.len()).then_some(()));
    let grown = nodegate.peak_memory().saturating_sub(before) / streams.len() as u64;
    println!("{grown} bytes for each stream");
    assert!(client.is_alive(), "the connection goes on");
    assert!(grown < 256 << 10, "{grown} bytes for each stream");
}

#[test]
fn streams_without_a_window_keep_as_little_of_backends_that_speak_http_2() {
    let backend = Http2Backend::plain(100);
    let nodegate = Nodegate::serve(&over_http2(&[("", "/", backend.address)]), &["--h2c", "127.0.0.1:0", "--write-stall-timeout", "5s"]);
    let mut client = Frames::connect(nodegate.at("h2c"), &[(INITIAL_WINDOW, 0)]);
    let before = nodegate.peak_memory();
    let big = GET_FIELDS.map(|(name, value)| if name == ":path" { (name, "/big") } else { (name, value) });
    let streams: Vec<u32> = (1..).step_by(2).take(100).collect();
    for stream in &streams {
        client.send(HEADERS, END_STREAM | END_HEADERS, *stream, &fields(&big));
    }
    expect_resets(&mut client, streams.len());
    let grown = nodegate.peak_memory().saturating_sub(before) / streams.len() as u64;
    println!("{grown} bytes for each stream");
    assert!(client.is_alive(), "the connection goes on");
    assert!(grown < 256 << 10, "{grown} bytes for each stream");
}

/// Waits until the client may send so much on all of its streams together, of which it may send `known` already; returns what it may send then.
#[track_caller]
fn window(client: &mut Frames, mut known: u64, wanted: usize) -> u64 {
    while known < wanted as u64 {
        let update = client.until(WINDOW_UPDATE, 0);
        known += u64::from(u32::from_be_bytes(update.payload.try_into().unwrap()));
    }
    known
}

#[test]
fn uploads_that_a_backend_does_not_read_leave_the_others_their_window() {
    let (stuck, fine) = (Http2Backend::plain(100), Backend::start().serve("ok"));
    let yaml = over_http2(&[("stuck", "/", stuck.address), ("fine", "/", fine)]);
    let nodegate = Nodegate::serve(&yaml, &["--h2c", "127.0.0.1:0"]);
    let streams: Vec<u32> = (1..).step_by(2).take(UPLOADS).collect();
    let post = |host, path| fields(&[POST_FIELDS[0], POST_FIELDS[1], (":path", path), (":authority", host)]);
    let mut expected = 0;
    let mut begin = || {
        let mut client = Frames::connect(nodegate.at("h2c"), &[]);
        for stream in &streams {
            client.send(HEADERS, END_HEADERS, *stream, &post("stuck", "/lazy"));
        }
        expected += UPLOADS;
        within(PATIENCE, "all of them to begin", || (stuck.requests() == expected).then_some(()));
        client
    };
    // Those that rest, as calls may for hours, take nothing from others.
    let _resting = [(); 3].map(|()| begin());
    let mut client = begin();
    // From here on a stream's window is what the proxy says it is.
    client.until(SETTINGS, 0);
    client.send(SETTINGS, ACK, 0, &[]);
    let before = nodegate.peak_memory();
    // What a connection has from the start (RFC 9113 section 6.9.2), and what it is given.
    let (each, mut known) = (HTTP2_STREAM_WINDOW_BYTES as usize, 65_535);
    for (sent, stream) in streams.iter().enumerate() {
        known = window(&mut client, known, (sent + 1) * each);
        let piece = frame(DATA, 0, *stream, &[0; 16 << 10]);
        client.wire.send(piece.repeat(each / (16 << 10)));
    }
    let another = 2 * u32::try_from(UPLOADS).unwrap() + 1;
    client.send(HEADERS, END_HEADERS, another, &post("fine", "/"));
    window(&mut client, known, UPLOADS * each + 1000);
    client.send(DATA, END_STREAM, another, &[0; 1000]);
    assert_eq!(client.until(DATA, another).payload, b"ok");
    // What they may send, and what is on its way from hand to hand.
    let grown = nodegate.peak_memory().saturating_sub(before) / streams.len() as u64;
    println!("{grown} bytes for each upload");
    let each = u64::from(HTTP2_STREAM_WINDOW_BYTES);
    assert!((each / 2..2 * each).contains(&grown), "{grown} bytes for each upload");
}
