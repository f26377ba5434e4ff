//! Connections that have been idle for a while: they have given their HTTP server back, and nobody can tell.

use std::time::Duration;

use nodegate::config::limits;

use crate::support::{Backend, GET, Nodegate, PATIENCE, Proxy, Wire, eventually, manifest};

/// What an idle connection may take; the kernel's part is not in it. In a debug build, the states of its futures are larger.
const BYTES: u64 = if cfg!(debug_assertions) { 14 << 10 } else { 10 << 10 };

/// A client whose connection has had one answer, and is idle.
fn idle(proxy: &Proxy) -> Wire {
    let before = proxy.numbers().connections_idle;
    let mut client = proxy.connect();
    assert_eq!(client.exchange(GET).text(), "hello");
    proxy.wait_for(|numbers| numbers.connections_idle == before + 1);
    client
}

#[test]
fn an_idle_connection_serves_again() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = idle(&proxy);
    for _ in 0..2 {
        assert_eq!(client.exchange(GET).text(), "hello");
    }
    proxy.wait_for(|numbers| numbers.connections_idle == 1);
    // Two at once, and one in two parts.
    client.send([GET, GET].concat());
    assert_eq!((client.message().text(), client.message().text()), ("hello", "hello"));
    proxy.wait_for(|numbers| numbers.connections_idle == 1);
    let (beginning, rest) = GET.split_at(9);
    client.send(beginning);
    proxy.wait_for(|numbers| numbers.connections_idle == 0);
    assert!(!client.stirs(2 * limits::IDLE_AFTER), "answered half a head");
    assert_eq!(proxy.numbers().connections_idle, 0, "a head under way is not idle");
    client.send(rest);
    assert_eq!(client.message().text(), "hello");
    assert_eq!(proxy.numbers().connections_accepted, 1);
}

/// Nor did the connection ever wait for a backend.
#[test]
fn a_connection_that_had_answers_of_our_own_alone_becomes_idle() {
    let mut proxy = Proxy::start(&manifest(&[("known", "/", Backend::start().serve("hello"))]));
    for request in [
        "GET / HTTP/1.1\r\nHost: unknown\r\n\r\n",
        // A body that came with its head is read, whoever answers: the connection goes on, with what came behind it.
        "POST / HTTP/1.1\r\nHost: unknown\r\nContent-Length: 4\r\n\r\nabcdGET /second HTTP/1.1\r\nHost: unknown\r\n\r\n",
    ] {
        let mut client = proxy.connect();
        client.send(request);
        for _ in 0..request.matches("unknown").count() {
            client.message().assert_own(404, "no_route");
            assert_eq!(proxy.record()["reason"], "no_route");
        }
        proxy.wait_for(|numbers| numbers.connections_idle == 1);
        assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: known\r\n\r\n").text(), "hello");
        proxy.record();
        drop(client);
        proxy.wait_for(|numbers| numbers.connections_open == 0);
    }
}

#[test]
fn a_refused_head_after_a_while_is_answered() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = idle(&proxy);
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.message().assert_own(400, "bad_request");
    client.expect_end();
    // However long the client stays.
    proxy.wait_for(|numbers| numbers.connections_open == 0);
}

/// What a client sends of a body that nobody reads is no request, however late it comes.
#[test]
fn the_rest_of_an_unread_body_is_no_request() {
    let backend = Backend::start();
    let mut proxy = Proxy::start(&manifest(&[("known", "/", backend.address())]));
    let inner = "GET /inner HTTP/1.1\r\nHost: known\r\n\r\n";
    let chunk = format!("{:x}\r\n{inner}\r\n", inner.len());
    for (beginning, rest) in [
        ("POST / HTTP/1.1\r\nHost: unknown\r\nContent-Length: 100000\r\n\r\n", inner.to_owned()),
        ("POST / HTTP/1.1\r\nHost: unknown\r\nContent-Length: 100000\r\n\r\nsome", inner.to_owned()),
        ("POST / HTTP/1.1\r\nHost: unknown\r\nTransfer-Encoding: chunked\r\n\r\n", inner.to_owned()),
        ("POST / HTTP/1.1\r\nHost: unknown\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n", chunk),
    ] {
        let mut client = proxy.connect();
        client.send(beginning);
        client.message().assert_own(404, "no_route");
        // The connection lingers for longer than it takes to become idle.
        std::thread::park_timeout(limits::IDLE_AFTER + 2 * limits::DEADLINE_TICK);
        let _ = client.try_send(rest);
        proxy.wait_for(|numbers| numbers.connections_open == 0);
        assert_eq!(proxy.record()["reason"], "no_route");
        assert!(backend.accept_within(Duration::ZERO).is_none(), "part of a body was forwarded");
    }
    assert_eq!(proxy.numbers().connections_idle, 0);
}

#[test]
fn a_connection_that_says_nothing_is_idle() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = proxy.connect();
    proxy.wait_for(|numbers| numbers.connections_accepted == 1);
    proxy.wait_for(|numbers| numbers.connections_idle == 1);
    assert_eq!(client.exchange(GET).text(), "hello");
}

#[test]
fn an_idle_connection_ends_at_its_timeout() {
    let timeout = 4 * limits::IDLE_AFTER;
    let proxy = Proxy::to_with(Backend::start().serve("hello"), |settings| settings.limits.keep_alive_timeout = timeout);
    idle(&proxy).expect_end();
    assert_eq!(proxy.numbers().keep_alive_timeouts, 1);
    proxy.wait_for(|numbers| (numbers.connections_open, numbers.connections_idle) == (0, 0));
}

#[test]
fn an_idle_connection_ends_with_its_client() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    drop(idle(&proxy));
    proxy.wait_for(|numbers| (numbers.connections_open, numbers.connections_idle) == (0, 0));
}

#[test]
fn an_idle_connection_ends_when_its_client_has_said_its_last() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = idle(&proxy);
    client.finish();
    client.expect_end();
    proxy.wait_for(|numbers| (numbers.connections_open, numbers.connections_idle) == (0, 0));
}

/// A connection that waits for its client to read a response isn't idle, and what is wrong with the next head is said right after that.
#[test]
fn a_refusal_behind_a_response_that_is_read_late_is_answered() {
    // More than the buffers of four sockets hold.
    let size = 64 << 20;
    let backend = Backend::start();
    let proxy = Proxy::to(backend.address());
    let mut client = proxy.connect();
    client.send([GET, "GET / HTTP/1.1\r\n\r\n"].concat());
    let mut wire = backend.accept();
    wire.message();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
            wire.send_zeros(size);
        });
        let head = client.head();
        assert_eq!(head.status(), 200);
        std::thread::park_timeout(limits::IDLE_AFTER + 2 * limits::DEADLINE_TICK);
        assert_eq!(proxy.numbers().connections_idle, 0);
        client.skip(size as u64);
    });
    client.message().assert_own(400, "bad_request");
    client.expect_end();
}

#[test]
fn an_idle_connection_leaves_in_a_drain() {
    let proxy = Proxy::to(Backend::start().serve("hello"));
    let mut client = idle(&proxy);
    proxy.drain(PATIENCE);
    client.expect_end();
    assert!(proxy.drained(PATIENCE));
}

#[test]
fn an_idle_connection_makes_room() {
    let proxy = Proxy::to_with(Backend::start().serve("hello"), |settings| settings.limits.max_connections = 1);
    let mut client = idle(&proxy);
    assert_eq!(proxy.exchange(GET).text(), "hello");
    client.expect_end();
    assert_eq!(proxy.numbers().connections_evicted, 1);
}

#[test]
fn those_who_have_been_idle_longest_make_room_first_and_who_stirs_stays() {
    // More than are chosen at once.
    let (recent, old) = (40, limits::EVICTION_BATCH + 40);
    let most = recent + old;
    let proxy = Proxy::to_with(Backend::start().serve("hello"), |settings| settings.limits.max_connections = most);
    let connect = || {
        let mut client = proxy.connect();
        assert_eq!(client.exchange(GET).text(), "hello");
        client
    };
    let mut clients: Vec<_> = (0..most).map(|_| connect()).collect();
    proxy.wait_for(|numbers| numbers.connections_idle == most as u64);
    // The first that came were the last that asked; and nobody is told to go who hasn't been idle for a while.
    clients[..recent].iter_mut().for_each(|client| assert_eq!(client.exchange(GET).text(), "hello"));
    proxy.wait_for(|numbers| numbers.connections_idle == most as u64);
    std::thread::park_timeout(limits::FIRST_REQUEST_GRACE);
    let mut later = vec![connect()];
    // Among those that are chosen already, and no longer idle.
    let (stirred, rest) = clients[recent..].split_first_mut().unwrap();
    assert_eq!(stirred.exchange(GET).text(), "hello");
    later.extend((2..old).map(|_| connect()));
    rest.iter_mut().for_each(Wire::expect_end);
    let stayed = std::iter::once(stirred).chain(&mut later);
    stayed.for_each(|client| assert_eq!(client.exchange(GET).text(), "hello"));
    clients[..recent].iter_mut().for_each(|client| assert_eq!(client.exchange(GET).text(), "hello"));
    assert_eq!(proxy.numbers().connections_evicted, old as u64 - 1);
}

#[test]
fn an_idle_connection_takes_little_memory() {
    let (batches, batch) = (10, 100);
    let nodegate = Nodegate::serve(&manifest(&[("", "/", Backend::start().serve("hello"))]), &[]);
    let connect = || {
        let mut client = nodegate.connect();
        assert_eq!(client.exchange(GET).text(), "hello");
        client
    };
    let become_idle = |count: usize| eventually("they are idle", || (idle_connections(&nodegate) == count).then_some(()));
    drop(connect());
    become_idle(0);
    let before = nodegate.memory();
    let mut clients = Vec::new();
    for _ in 0..batches {
        // Few at a time: what they take while they aren't idle is used by the next.
        clients.extend((0..batch).map(|_| connect()));
        become_idle(clients.len());
    }
    let each = nodegate.memory().saturating_sub(before) / clients.len() as u64;
    println!("an idle connection takes {each} bytes");
    assert!(each < BYTES, "an idle connection takes {each} bytes");
}

/// Opened in advance, as browsers do, or by somebody who wants to do harm: all at once, so that none takes what another has given back.
#[test]
fn a_connection_that_has_said_nothing_yet_takes_little_memory_from_the_start() {
    let nodegate = Nodegate::serve(&manifest(&[("", "/", Backend::start().serve("hello"))]), &[]);
    // What the first one makes for all.
    assert_eq!(nodegate.connect().exchange(GET).text(), "hello");
    let before = nodegate.memory();
    let mut clients: Vec<_> = (0..1000).map(|_| nodegate.connect()).collect();
    // Behind them in the queue, so that all are accepted.
    assert_eq!(nodegate.connect().exchange(GET).text(), "hello");
    let each = nodegate.memory().saturating_sub(before) / clients.len() as u64;
    println!("a silent connection takes {each} bytes");
    assert!(each < BYTES, "a silent connection takes {each} bytes");
    for client in clients.iter_mut().step_by(100) {
        assert_eq!(client.exchange(GET).text(), "hello");
    }
}

fn idle_connections(nodegate: &Nodegate) -> usize {
    let metrics = Wire::page(nodegate.admin, "/metrics");
    let line = metrics.text().lines().find_map(|line| line.strip_prefix("nodegate_connections_idle ")).unwrap();
    line.parse().unwrap()
}
