//! The wall clock jumps by a day, forth and back: nobody is served less, and nothing ends sooner or later than it would have.

use std::{fs, time::Duration};

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use crate::support::{Backend, Clock, GET, Nodegate, Wire, eventually, manifest};

const DAY: i64 = 24 * 60 * 60;
/// Long enough to be told from "at once" on a busy machine, and from "never".
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What an answer of the process's own says about the time, in seconds ahead of ours.
fn ahead(client: &mut Wire) -> i64 {
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: unknown\r\n\r\n");
    answer.assert_own(404, "no_route");
    let date = DateTimeParser::new().parse_timestamp(answer.head.field("date").expect("a date")).unwrap();
    date.as_second() - Timestamp::now().as_second()
}

/// Sets the clock, and waits until the process has noticed.
fn jump(clock: &Clock, seconds: i64, client: &mut Wire) {
    clock.set(seconds);
    eventually("the process has the new time", || ((ahead(client) - seconds).abs() < DAY / 2).then_some(()));
}

#[test]
fn a_clock_that_jumps_by_a_day_ends_no_connection_and_no_request() {
    let (backend, clock) = (Backend::start(), Clock::new());
    let nodegate = Nodegate::serve_by_clock(&clock, &manifest(&[("a", "/", backend.address())]), &[]);
    let (mut kept, mut busy, mut teller) = (nodegate.connect(), nodegate.connect(), nodegate.connect());
    kept.send(GET);
    let (mut upstream, _) = backend.answer(OK);
    assert_eq!(kept.message().text(), "ok");
    for seconds in [DAY, -DAY, 0] {
        busy.send(GET);
        upstream.message();
        jump(&clock, seconds, &mut teller);
        // What was on its way, what was idle, and what is new; all of it over the connection to the backend that was kept.
        upstream.send(OK);
        assert_eq!(busy.message().text(), "ok");
        for client in [&mut kept, &mut nodegate.connect()] {
            client.send(GET);
            upstream.message();
            upstream.send(OK);
            assert_eq!(client.message().text(), "ok");
        }
    }
}

#[test]
fn a_timeout_lasts_as_long_as_it_does_while_the_clock_jumps() {
    let clock = Clock::new();
    let seconds = format!("{}s", HEADER_TIMEOUT.as_secs());
    let nodegate = Nodegate::serve_by_clock(&clock, &manifest(&[]), &["--header-read-timeout", &seconds]);
    let mut teller = nodegate.connect();
    for seconds in [DAY, -DAY] {
        let mut slow = nodegate.connect();
        slow.send("GET / HTTP/1.1\r\n");
        jump(&clock, seconds, &mut teller);
        assert!(!slow.stirs(HEADER_TIMEOUT / 2), "too soon, {seconds} s ahead");
        slow.message().assert_own(408, "client_timeout");
    }
}

#[test]
fn manifests_from_another_day_come_into_force() {
    let (first, second, clock) = (Backend::start().serve("first"), Backend::start().serve("second"), Clock::new());
    let nodegate = Nodegate::serve_by_clock(&clock, &manifest(&[("a", "/", first)]), &[]);
    let mut teller = nodegate.connect();
    for (seconds, backend, expected) in [(DAY, second, "second"), (-DAY, first, "first"), (0, second, "second")] {
        jump(&clock, seconds, &mut teller);
        fs::write(nodegate.manifests(), manifest(&[("a", "/", backend)])).unwrap();
        eventually("the new manifest is in force", || (nodegate.connect().exchange(GET).text() == expected).then_some(()));
    }
}
