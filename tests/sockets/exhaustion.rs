//! Out of file descriptors, and slow readers: the program waits, without spinning, crashing or growing, and goes on when it can.

use std::{thread, time::Duration};

use crate::support::{Backend, GET, Nodegate, Wire, manifest};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn serve(backend: &Backend) -> Nodegate {
    Nodegate::serve(&manifest(&[("", "/", backend.address())]), &[])
}

/// A client that has had an answer, and the backend's end of the connection that it came from.
#[track_caller]
fn served(nodegate: &Nodegate, backend: &Backend) -> (Wire, Wire) {
    let mut client = nodegate.connect();
    client.send(GET);
    let (upstream, _) = backend.answer(OK);
    assert_eq!(client.message().text(), "ok");
    (client, upstream)
}

/// Fewer than any process has: from now on, no other can be opened.
const NONE: u64 = 3;
const PLENTY: u64 = 1000;

#[test]
fn without_a_free_descriptor_clients_wait_and_nothing_spins() {
    let backend = Backend::start();
    let nodegate = serve(&backend);
    let (mut first, mut upstream) = served(&nodegate, &backend);
    nodegate.limit_files(NONE);
    let mut waiting: Vec<Wire> = (0..5).map(|_| nodegate.connect()).collect();
    for client in &mut waiting {
        client.send(GET);
    }
    let before = nodegate.cpu_ticks();
    assert!(!waiting[0].stirs(Duration::from_secs(1)), "served, or refused, without a descriptor");
    let spent = nodegate.cpu_ticks() - before;
    // A try every 50 ms costs one or two.
    assert!(spent < 15, "{spent} of 100 ticks spent on waiting");
    // Whoever is in is served as before.
    first.send(GET);
    upstream.message();
    upstream.send(OK);
    assert_eq!(first.message().text(), "ok");
    nodegate.limit_files(PLENTY);
    drop(upstream);
    backend.serve("hello");
    for client in &mut waiting {
        assert_eq!(client.message().text(), "hello");
    }
}

#[test]
fn without_a_descriptor_for_the_backend_the_answer_is_overload() {
    let backend = Backend::start();
    let nodegate = serve(&backend);
    let (mut client, upstream) = served(&nodegate, &backend);
    // Nothing is left in the pool.
    drop(upstream);
    nodegate.limit_files(NONE);
    for _ in 0..3 {
        let response = client.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
        response.assert_own(503, "overload");
        assert_eq!(response.head.field("retry-after"), Some("1"));
    }
    nodegate.limit_files(PLENTY);
    client.send(GET);
    backend.answer(OK);
    assert_eq!(client.message().text(), "ok");
}

#[test]
fn slow_readers_cost_no_memory() {
    const CLIENTS: usize = 20;
    const BODY: usize = 32 << 20;
    let backend = Backend::start();
    let nodegate = serve(&backend);
    drop(served(&nodegate, &backend));
    let before = nodegate.peak_memory();
    let address = backend.serve_each(|_, mut wire| {
        wire.message();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n"));
        wire.send_zeros(BODY);
    });
    let mut clients: Vec<Wire> = (0..CLIENTS).map(|_| nodegate.connect()).collect();
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.head().status(), 200);
    }
    // 640 MiB are under way to clients that take a little at a time, each in its turn.
    for _ in 0..8 {
        for client in &mut clients {
            client.skip(BODY as u64 / 8);
        }
    }
    let growth = nodegate.peak_memory().saturating_sub(before);
    println!("{CLIENTS} slow readers of {address} took {} KiB of memory", growth >> 10);
    assert!(growth < 20 << 20, "{growth} bytes");
}

#[test]
fn slow_backends_cost_no_memory() {
    const BODY: usize = 128 << 20;
    let backend = Backend::start();
    let nodegate = serve(&backend);
    drop(served(&nodegate, &backend));
    let before = nodegate.peak_memory();
    let mut client = nodegate.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n"));
    let mut upstream = backend.accept();
    upstream.head();
    // The client is held back as soon as the kernel's buffers are full.
    let taken = client.send_until_stuck(BODY);
    assert!(taken < BODY / 2, "{taken} bytes were taken for a backend that read none");
    thread::scope(|scope| {
        scope.spawn(|| client.send_zeros(BODY - taken));
        upstream.skip(BODY as u64);
    });
    upstream.send(OK);
    assert_eq!(client.message().text(), "ok");
    let growth = nodegate.peak_memory().saturating_sub(before);
    println!("128 MiB for a slow backend took {} KiB of memory", growth >> 10);
    assert!(growth < 20 << 20, "{growth} bytes");
}
