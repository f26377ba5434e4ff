//! What concerns the whole process: memory under large bodies, the limit of open files, manifests that change under load.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Backend, GET, Nodegate, PATIENCE, Wire, manifest};

const GIB: usize = 1 << 30;
/// What a GiB may cost in memory.
const GROWTH: u64 = 20 << 20;

/// A proxied request that was answered, so that everything is loaded that a request needs.
fn warmed_up(backend: &Backend) -> Nodegate {
    let nodegate = Nodegate::serve(&manifest(&[("", "/", backend.address())]), &[]);
    let mut client = nodegate.connect();
    client.send(GET);
    backend.answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    assert_eq!(client.head().status(), 204);
    nodegate
}

#[track_caller]
fn assert_growth(nodegate: &Nodegate, before: u64) {
    let growth = nodegate.peak_memory().saturating_sub(before);
    println!("1 GiB took {} KiB of memory", growth >> 10);
    assert!(growth < GROWTH, "1 GiB took {growth} bytes of memory");
}

#[test]
fn its_small_pieces_are_kept_out_of_huge_pages() {
    let nodegate = Nodegate::serve(&manifest(&[]), &[]);
    assert!(!nodegate.may_have_huge_pages());
}

#[test]
fn a_gib_uploaded_takes_no_memory() {
    let backend = Backend::start();
    let nodegate = warmed_up(&backend);
    let before = nodegate.peak_memory();
    let mut client = nodegate.connect();
    thread::scope(|scope| {
        scope.spawn(|| {
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {GIB}\r\n\r\n"));
            client.send_zeros(GIB);
        });
        let mut upstream = backend.accept();
        upstream.head();
        upstream.skip(GIB as u64);
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    });
    assert_eq!(client.head().status(), 204);
    assert_growth(&nodegate, before);
}

#[test]
fn a_gib_downloaded_takes_no_memory() {
    let backend = Backend::start();
    let nodegate = warmed_up(&backend);
    let before = nodegate.peak_memory();
    let mut client = nodegate.connect();
    client.send(GET);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut upstream, _) = backend.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n"));
            upstream.send_zeros(GIB);
        });
        assert_eq!(client.head().status(), 200);
        client.skip(GIB as u64);
    });
    assert_growth(&nodegate, before);
}

#[test]
fn at_the_limit_of_open_files_clients_wait_and_none_is_refused() {
    let backend = Backend::start();
    let address = backend.address();
    // 128 are kept for other things: room for 16 clients and as many backends.
    let nodegate = Nodegate::serve_with_files(160, &manifest(&[("", "/", address)]));
    let mut first: Vec<(Wire, Wire)> = (0..16)
        .map(|_| {
            let mut client = nodegate.connect();
            client.send(GET);
            let mut upstream = backend.accept();
            upstream.message();
            (client, upstream)
        })
        .collect();
    let mut waiting: Vec<Wire> = (0..16).map(|_| nodegate.connect()).collect();
    for client in &mut waiting {
        client.send(GET);
    }
    assert!(backend.accept_within(Duration::from_millis(200)).is_none(), "more clients than files");
    assert!(nodegate.open_files() < 160);
    for (client, upstream) in &mut first {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        assert_eq!(client.message().text(), "ok");
    }
    drop(first);
    backend.serve("hello");
    for client in &mut waiting {
        assert_eq!(client.message().text(), "hello");
    }
}

#[test]
fn a_hundred_edits_under_load_fail_no_request() {
    let (blue, green) = (Backend::start().serve("blue"), Backend::start().serve("green"));
    let to = |backend| manifest(&[("", "/", backend)]);
    let nodegate = Nodegate::serve(&to(blue), &[]);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut times = Vec::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = nodegate.connect();
                while !done.load(Ordering::Relaxed) {
                    let response = client.exchange(GET);
                    assert!(response.status() == 200 && response.complete, "{response:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut client = nodegate.connect();
        for edit in 0..100 {
            let (backend, expected) = if edit % 2 == 0 { (green, "green") } else { (blue, "blue") };
            // As editors save: a new file in place of the old one, or the old one written anew.
            if edit % 4 < 2 {
                let new = nodegate.manifests().with_extension("new");
                fs::write(&new, to(backend)).unwrap();
                fs::rename(new, nodegate.manifests()).unwrap();
            } else {
                fs::write(nodegate.manifests(), to(backend)).unwrap();
            }
            let saved = Instant::now();
            while client.exchange(GET).text() != expected {
                assert!(saved.elapsed() < PATIENCE, "edit {edit} never became live");
            }
            times.push(saved.elapsed());
        }
        done.store(true, Ordering::Relaxed);
    });
    times.sort_unstable();
    println!("{} requests; an edit was live after {:?} (median), {:?} (worst)", served.load(Ordering::Relaxed), times[50], times[99]);
    assert!(served.load(Ordering::Relaxed) > 100);
}
