//! Hosts that don't answer: how many dials they get beside each other, and for how long anything waits for them.

use std::{
    cell::Cell,
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use nodegate::config::limits::{DIALS_AT_ONCE, DIALS_BESIDE, DIALS_TO_ONE_HOST, REDIAL_SHARE};
use socket2::{Domain, Socket, Type};

use crate::support::{Backend, Endpoint::Ready, GET, Proxy, Service, Wire, service};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A host that is silent as long as this holds: the kernel leaves connections unanswered when a listener's queue of one is full.
pub struct Silent {
    socket: Socket,
    queued: Vec<Socket>,
}

impl Silent {
    pub fn start() -> Self {
        Self::start_at(0)
    }

    /// One whose silent port is this one.
    pub fn start_at(port: u16) -> Self {
        let mut silent = Self::start_reachable(port);
        silent.fall_silent();
        silent
    }

    /// One that takes a connection before it falls silent, and little of what is sent on it.
    fn start_reachable(port: u16) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(&SocketAddr::from(([127, 43, 99, 2], port)).into()).unwrap();
        socket.listen(0).unwrap();
        Self { socket, queued: Vec::new() }
    }

    fn fall_silent(&mut self) {
        let address = self.socket.local_addr().unwrap();
        self.queued.extend((0..2).map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address);
            client
        }));
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }

    fn accept(&self) -> Wire {
        Wire::new(self.socket.accept().unwrap().0.into())
    }

    /// From now on connections are taken, and answered.
    fn recover(self) {
        let Self { socket, queued } = self;
        drop(queued);
        let listener = TcpListener::from(socket);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut wire = Wire::new(stream);
                thread::spawn(move || {
                    // Those that were in the queue are closed.
                    while wire.stirs(Duration::from_millis(500)) && !wire.ended() {
                        wire.message();
                        wire.send(OK);
                    }
                });
            }
        });
    }
}

fn sent(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect();
    client.send(GET);
    client
}

/// As the proxy's numbers are.
fn u64_of(count: usize) -> u64 {
    count.try_into().unwrap()
}

#[test]
fn a_dial_without_an_answer_gets_others_beside_it() {
    let silent = Silent::start();
    let proxy = Proxy::to(silent.address());
    let mut client = sent(&proxy);
    // Behind a ClusterIP, another pod may be chosen for each.
    proxy.wait_for(|numbers| numbers.upstream_dials == 3);
    assert_eq!((proxy.numbers().upstream_open, proxy.numbers().upstream_dial_failures), (3, 0), "one was given up");
    silent.recover();
    assert_eq!(client.message().text(), "ok");
}

#[test]
fn a_host_that_answers_late_is_not_given_up() {
    let silent = Silent::start();
    // One pod: a second dial, and no third.
    let mut proxy = Proxy::start(&service(Service::ClusterIp(silent.address()), &[Ready(SocketAddr::from(([192, 0, 2, 1], 80)))]));
    let mut client = sent(&proxy);
    proxy.wait_for(|numbers| numbers.upstream_dials == u64_of(DIALS_TO_ONE_HOST));
    silent.recover();
    // The kernel sends the first dial's SYN again after a second, which is before the second's.
    assert_eq!(client.message().text(), "ok");
    assert_eq!(proxy.record()["attempts"], 1);
    let numbers = proxy.numbers();
    assert_eq!((numbers.upstream_dials, numbers.upstream_dial_failures), (u64_of(DIALS_TO_ONE_HOST), 0));
}

#[test]
fn a_connection_that_took_long_to_open_carries_one_request() {
    let silent = Silent::start();
    let proxy = Proxy::start(&service(Service::ClusterIp(silent.address()), &[Ready(SocketAddr::from(([192, 0, 2, 1], 80)))]));
    let mut client = sent(&proxy);
    proxy.wait_for(|numbers| numbers.upstream_dials == u64_of(DIALS_TO_ONE_HOST));
    silent.recover();
    assert_eq!(client.message().text(), "ok");
    // The next one opens at once, and is kept.
    for reused in [0, 1] {
        client.send(GET);
        assert_eq!(client.message().text(), "ok");
        assert_eq!(proxy.numbers().upstream_reused, reused);
    }
}

#[test]
fn a_silent_pod_costs_no_more_than_a_moment_where_another_answers() {
    let silent = Silent::start();
    let closing = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let backend = Backend::start().serve_each(move |_, mut wire| {
        wire.message();
        wire.send(closing);
    });
    let manifest = service(Service::Headless, &[Ready(silent.address()), Ready(backend)]);
    let mut proxy = Proxy::with(&manifest, |settings| settings.limits.connect_timeout = Duration::from_secs(30));
    let met = (0..50).any(|_| {
        let begun = Instant::now();
        assert_eq!(proxy.exchange(GET).text(), "ok");
        assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
        let record = proxy.record();
        assert_eq!(record["upstream"], backend.to_string());
        record["attempts"] == 2
    });
    assert!(met, "none of 50 requests met the silent one");
}

#[test]
fn a_backend_that_does_not_accept_in_time_is_504() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let silent = Silent::start();
    let mut proxy = Proxy::to_with(silent.address(), |settings| settings.limits.connect_timeout = TIMEOUT);
    let begun = Instant::now();
    proxy.exchange(GET).assert_own(504, "upstream_timeout");
    assert!(begun.elapsed() >= TIMEOUT, "too early: {:?}", begun.elapsed());
    let record = proxy.record();
    assert_eq!((&record["upstream"], &record["attempts"]), (&silent.address().to_string().into(), &DIALS_AT_ONCE.into()));
    let numbers = proxy.numbers();
    assert_eq!(
        (numbers.upstream_dials, numbers.upstream_dial_failures, numbers.retries, numbers.upstream_open),
        (u64_of(DIALS_AT_ONCE), u64_of(DIALS_AT_ONCE), u64_of(DIALS_AT_ONCE) - 1, 0)
    );
}

#[test]
fn requests_to_a_host_out_of_reach_do_not_multiply_its_sockets_without_end() {
    const CLIENTS: usize = 60;
    let silent = Silent::start();
    let proxy = Proxy::to(silent.address());
    let clients: Vec<Wire> = (0..CLIENTS).map(|_| sent(&proxy)).collect();
    let most = Cell::new(0);
    proxy.wait_for(|numbers| {
        most.set(most.get().max(numbers.upstream_open));
        // Others go on in the place of those that have waited for long enough.
        numbers.upstream_dials > u64_of(CLIENTS + DIALS_BESIDE)
    });
    assert_eq!(most.get(), u64_of(CLIENTS + DIALS_BESIDE));
    assert!(proxy.numbers().upstream_dial_failures > 0);
    drop(clients);
    proxy.wait_for(|numbers| numbers.upstream_open == 0);
}

#[test]
fn a_kept_connection_to_a_host_that_falls_silent_costs_no_more_than_the_connect_timeout() {
    // Long enough for the last part of it, which a wait for the whole of it would add, to stand out from the clocks' quarters of a second.
    const TIMEOUT: Duration = Duration::from_secs(6);
    let mut silent = Silent::start_reachable(0);
    let mut proxy = Proxy::to_with(silent.address(), |settings| settings.limits.connect_timeout = TIMEOUT);
    let mut client = sent(&proxy);
    let mut kept = silent.accept();
    kept.message();
    kept.send(OK);
    assert_eq!(client.message().text(), "ok");
    proxy.record();
    proxy.wait_for(|numbers| numbers.upstream_idle == 1);
    silent.fall_silent();
    // More than the host takes: to the kernel, the rest is not acknowledged.
    let begun = Instant::now();
    client.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(30_000))).assert_own(504, "upstream_timeout");
    let took = begun.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT + TIMEOUT / REDIAL_SHARE, "took {took:?}");
    assert_eq!(proxy.record()["attempts"], DIALS_AT_ONCE + 1, "one on the kept connection, and all dials");
}
