//! What a line says, that it is JSON whatever the request said, and that nobody but the writer ever waits for the output.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, LazyLock, mpsc::sync_channel},
    time::{Instant, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{json::Formatter, *};
use crate::route::{Backend, BackendId, Endpoints, IngressId, Policy, Protocol, Target};

static ROUTE: LazyLock<Route> = LazyLock::new(|| Route {
    ingress: Arc::new(IngressId { namespace: "shop".into(), name: "web".into() }),
    backend: Arc::new(Backend {
        id: BackendId { namespace: "shop".into(), service: "api".into(), port: "8000".into() },
        protocol: Protocol::Http1,
        target: Target::Endpoints,
        endpoints: Endpoints::Unknown,
    }),
    policy: Policy::default(),
});

fn record() -> Record<'static> {
    Record {
        time: UNIX_EPOCH + Duration::new(1_767_225_599, 42_007),
        client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        peer: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 250), 40_100)),
        method: "GET",
        host: "api.example.com",
        path: "/v1?q=1",
        version: http::Version::HTTP_11,
        route: Some(&ROUTE),
        upstream: Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 8000))),
        status: 200,
        reason: None,
        queue: Duration::from_micros(11),
        connect: None,
        first_byte: Some(Duration::from_micros(1500)),
        total: Duration::from_millis(2),
        bytes_in: 0,
        bytes_out: u64::MAX,
        attempts: 1,
        request_id: "0123",
        user_agent: Some("curl/8"),
    }
}

fn line(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    Formatter::default().line(record, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn line_holds_every_field() {
    let parsed: Value = serde_json::from_str(&line(&record())).unwrap();
    let expected = json!({
        "time": "2025-12-31T23:59:59.000042Z", "client": "203.0.113.9", "peer": "10.0.0.250:40100", "method": "GET",
        "host": "api.example.com", "path": "/v1?q=1", "protocol": "HTTP/1.1", "ingress": "shop/web", "backend": "shop/api:8000",
        "upstream": "[::1]:8000", "status": 200, "reason": null, "queue_us": 11, "connect_us": null, "first_byte_us": 1500,
        "total_us": 2000, "bytes_in": 0, "bytes_out": u64::MAX, "attempts": 1, "request_id": "0123", "user_agent": "curl/8",
    });
    assert_eq!(parsed, expected);
}

#[test]
fn what_is_unknown_is_null() {
    let bare = Record { route: None, upstream: None, user_agent: None, reason: Some("no_route"), ..record() };
    let parsed: Value = serde_json::from_str(&line(&bare)).unwrap();
    for key in ["ingress", "backend", "upstream", "user_agent", "connect_us"] {
        assert_eq!(parsed.get(key), Some(&Value::Null), "{key}");
    }
    assert_eq!(parsed["reason"], "no_route");
}

#[test]
fn any_text_survives_as_json_on_one_line() {
    let all_ascii: String = (0u8..128).map(char::from).collect();
    for text in ["", "\"", "\\", "\u{0}", "\r\n", "a\tb", "\u{7f}", "\u{2028}ü😀", "ends\\", "\"},{\"status\":500", &all_ascii] {
        let line = line(&Record { path: text, user_agent: Some(text), ..record() });
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{text:?}");
        assert!(!line.trim_end().contains(|c: char| c.is_control()), "{text:?}");
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&parsed["path"], &parsed["user_agent"]), (&json!(text), &json!(text)));
    }
}

#[test]
fn time_follows_each_record() {
    let mut formatter = Formatter::default();
    for (second, nanos, expected) in [
        (0, 0, "1970-01-01T00:00:00.000000Z"),
        (951_782_400, 999_999_999, "2000-02-29T00:00:00.999999Z"),
        (951_782_400, 1_000, "2000-02-29T00:00:00.000001Z"),
        (4_102_444_799, 500_000_000, "2099-12-31T23:59:59.500000Z"),
    ] {
        let mut out = Vec::new();
        formatter.line(&Record { time: UNIX_EPOCH + Duration::new(second, nanos), ..record() }, &mut out);
        let parsed: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(parsed["time"], expected);
    }
}

/// A log that writes to a pipe, and the pipe's other end.
fn on_a_pipe(queue: usize) -> (Local, Writer, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let (sender, receiver) = sync_channel(queue);
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    (Local::new(Some(sender.clone())), Writer::start(file, sender, receiver).unwrap(), reader)
}

/// Of [`record`]: no more than one more fits in.
fn lines_of_a_batch() -> u64 {
    let (line, lines) = (line(&record()).len(), (1_usize..));
    let full = |count: &usize| count * line + LAST_LINE_BYTES > limits::LOG_BATCH_BYTES;
    lines.into_iter().find(full).unwrap() as u64
}

#[test]
fn records_arrive_in_order_once_flushed() {
    let (mut local, writer, reader) = on_a_pipe(8);
    for status in 100..110 {
        local.push(&Record { status, ..record() });
    }
    local.flush();
    let mut lines = BufReader::new(reader).lines();
    for status in 100..110 {
        let parsed: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(parsed["status"], status);
    }
    assert!(writer.finish(Duration::from_secs(10)));
    assert_eq!(local.dropped(), 0);
    assert!(lines.next().is_none(), "the pipe is closed after the last line");
}

#[test]
fn full_pipe_drops_and_counts_but_never_blocks() {
    let (mut local, writer, mut reader) = on_a_pipe(4);
    let pushed: u64 = 64 * lines_of_a_batch();
    // Nobody reads: were a push to wait for the writer, this would never end.
    for _ in 0..pushed {
        local.push(&record());
    }
    let dropped = local.dropped();
    assert!(dropped > 0 && dropped < pushed, "{dropped} of {pushed}");
    assert_eq!(dropped % lines_of_a_batch(), 0, "whole batches");

    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(writer.finish(Duration::from_secs(30)), "the writer goes on once somebody reads");
    let text = reading.join().unwrap();
    assert_eq!(text.lines().count() as u64, pushed - dropped, "what wasn't dropped was written");
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "no torn line");
}

#[test]
fn unread_pipe_doesnt_hold_up_the_exit() {
    let (mut local, writer, _reader) = on_a_pipe(4);
    for _ in 0..16 * lines_of_a_batch() {
        local.push(&record());
    }
    let start = Instant::now();
    assert!(!writer.finish(Duration::from_millis(50)));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn reader_that_went_away_costs_lines_only() {
    let (mut local, writer, reader) = on_a_pipe(4);
    drop(reader);
    let lost = writer.lost();
    for _ in 0..3 {
        local.push(&record());
    }
    local.flush();
    assert!(writer.finish(Duration::from_secs(10)));
    assert_eq!(lost.lines() + local.dropped(), 3);
}

#[test]
fn file_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    for _ in 0..2 {
        let (mut locals, writer) = start(Output::File(path.clone()), 1).unwrap();
        locals[0].push(&record());
        locals[0].flush();
        assert!(writer.finish(Duration::from_secs(10)));
    }
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
    assert!(start(Output::File(directory.path().join("none/access.log")), 1).is_err());
}

#[test]
fn log_that_is_off_takes_nothing() {
    let (mut locals, writer) = start(Output::Off, 2).unwrap();
    assert_eq!(locals.len(), 2);
    assert!(!locals[0].enabled());
    locals[0].push(&record());
    assert!(locals[0].batch.text.is_empty());
    assert!(writer.finish(Duration::ZERO));
}
