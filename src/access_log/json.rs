//! A record as one line of JSON, by hand: this runs once a request, and the generic way costs several times as much.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Record;
use crate::route::BackendId;

/// Formats lines; keeps the text of the last second, which most lines share.
#[derive(Debug, Default)]
pub(super) struct Formatter {
    second: u64,
    /// `2026-01-31T23:59:59`, of `second`.
    text: String,
}

impl Formatter {
    /// Appends `record` and a line end.
    pub(super) fn line(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        // Destructured, so that a new field can't be forgotten here.
        let Record {
            time,
            client,
            peer,
            method,
            host,
            path,
            version,
            route,
            upstream,
            status,
            reason,
            queue,
            connect,
            first_byte,
            total,
            bytes_in,
            bytes_out,
            attempts,
            request_id,
            user_agent,
        } = record;
        out.extend_from_slice(b"{\"time\":\"");
        self.time(*time, out);
        out.extend_from_slice(b"\",\"client\":\"");
        address(*client, out);
        out.extend_from_slice(b"\",\"peer\":\"");
        socket_address(peer, out);
        out.extend_from_slice(b"\",\"method\":\"");
        escaped(method, out);
        out.extend_from_slice(b"\",\"host\":\"");
        escaped(host, out);
        out.extend_from_slice(b"\",\"path\":\"");
        escaped(path, out);
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(protocol(*version).as_bytes());
        if let Some(route) = route {
            let (ingress, backend) = (&route.ingress, &route.backend.id);
            out.extend_from_slice(b"\",\"ingress\":\"");
            escaped(&ingress.namespace, out);
            out.push(b'/');
            escaped(&ingress.name, out);
            out.extend_from_slice(b"\",\"backend\":\"");
            backend_id(backend, out);
            out.extend_from_slice(b"\",\"upstream\":");
        } else {
            out.extend_from_slice(b"\",\"ingress\":null,\"backend\":null,\"upstream\":");
        }
        optional(upstream.as_ref(), out, socket_address);
        out.extend_from_slice(b",\"status\":");
        integer(*status, out);
        out.extend_from_slice(b",\"reason\":");
        optional(reason.as_ref(), out, |reason, out| escaped(reason, out));
        duration("queue_us", Some(*queue), out);
        duration("connect_us", *connect, out);
        duration("first_byte_us", *first_byte, out);
        duration("total_us", Some(*total), out);
        out.extend_from_slice(b",\"bytes_in\":");
        integer(*bytes_in, out);
        out.extend_from_slice(b",\"bytes_out\":");
        integer(*bytes_out, out);
        out.extend_from_slice(b",\"attempts\":");
        integer(*attempts, out);
        out.extend_from_slice(b",\"request_id\":\"");
        escaped(request_id, out);
        out.extend_from_slice(b"\",\"user_agent\":");
        optional(user_agent.as_ref(), out, |agent, out| escaped(agent, out));
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 in UTC, with microseconds. A clock before 1970 shows as 1970.
    fn time(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            self.text.clear();
            date_and_time(self.second, &mut self.text);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut fraction = *b".000000Z";
        let mut rest = since.subsec_micros();
        for digit in fraction.iter_mut().skip(1).take(6).rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

fn date_and_time(second: u64, text: &mut String) {
    let moment = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok()).unwrap_or_default();
    // Writing to a String can't fail.
    let _ = write!(text, "{}", moment.strftime("%Y-%m-%dT%H:%M:%S"));
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_3 => "HTTP/3",
        // The type is open; 1.1 is what is left of it.
        _ => "HTTP/1.1",
    }
}

fn optional<T>(value: Option<&T>, out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    let Some(value) = value else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    write(value, out);
    out.push(b'"');
}

/// `namespace/service:port`.
fn backend_id(BackendId { namespace, service, port }: &BackendId, out: &mut Vec<u8>) {
    escaped(namespace, out);
    out.push(b'/');
    escaped(service, out);
    out.push(b':');
    escaped(port, out);
}

fn duration(key: &str, value: Option<Duration>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    match value {
        Some(value) => integer(value.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(value.subsec_micros())), out),
        None => out.extend_from_slice(b"null"),
    }
}

fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                integer(octet, out);
            }
        }
        // Rare enough for the library's way; writing to a Vec can't fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn socket_address(value: &SocketAddr, out: &mut Vec<u8>) {
    match value {
        SocketAddr::V4(v4) => {
            address(IpAddr::V4(*v4.ip()), out);
            out.push(b':');
            integer(v4.port(), out);
        }
        SocketAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// What a JSON string can't have as it is; DEL too, for terminals' sake. Without a branch, so that the compiler looks at many bytes at once.
#[expect(clippy::needless_bitwise_bool, reason = "see above")]
fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f)
}

/// The contents of a JSON string (RFC 8259 section 7): quote, backslash and control characters escaped.
fn escaped(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    if !rest.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        return out.extend_from_slice(rest);
    }
    while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => drop(write!(out, "\\u{other:04x}")),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}
