//! PROXY protocol: who is believed, what is understood, and what ends a connection.

use std::{net::SocketAddr, time::Duration};

use nodegate::{
    message::{IpSet, Trust},
    proxy::Settings,
};

use crate::support::{Backend, Http2, Proxy, TlsClient, Wire};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn set(who: &str) -> IpSet {
    IpSet::parse(&[who.to_owned()], None).unwrap()
}

/// One that expects it from the tests.
fn proxied(backend: SocketAddr, change: impl FnOnce(&mut Settings)) -> Proxy {
    Proxy::to_with(backend, |settings| {
        settings.proxy_protocol = Some(set("127.0.0.0/8"));
        change(settings);
    })
}

/// Version 2, with these addresses and what may follow them.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &u16::try_from(rest.len()).unwrap().to_be_bytes(), rest].concat()
}

fn tcp4(more: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[198, 51, 100, 7, 192, 0, 2, 1, 0xdc, 4, 1, 187], more].concat())
}

fn tcp6() -> Vec<u8> {
    let source: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    v2(0x21, 0x21, &[&source[..], &source, &[0xdc, 4, 1, 187]].concat())
}

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let backend = Backend::start();
    let mut proxy = proxied(backend.address(), |_| {});
    let mapped = b"PROXY TCP6 ::ffff:198.51.100.7 ::1 1 2\r\n".to_vec();
    for (label, header, client) in [
        ("version 1", V1.to_vec(), "198.51.100.7"),
        ("version 1, IPv6", b"PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n".to_vec(), "2001:db8::7"),
        ("version 1, IPv4 as IPv6", mapped, "198.51.100.7"),
        ("version 1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("version 1, unknown and more", b"PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n".to_vec(), "127.0.0.1"),
        ("version 2", tcp4(&[]), "198.51.100.7"),
        ("version 2, IPv6", tcp6(), "2001:db8::7"),
        ("version 2, with extensions", tcp4(&[4, 0, 3, b'a', b'b', b'c', 0xee, 0, 0]), "198.51.100.7"),
        ("version 2, local", v2(0x20, 0, &[]), "127.0.0.1"),
    ] {
        for piece in [usize::MAX, 1] {
            let mut client_wire = proxy.connect();
            let bytes = [&header, GET.as_bytes()].concat();
            for piece in bytes.chunks(piece.min(bytes.len())) {
                client_wire.send(piece);
            }
            let (_upstream, request) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            assert_eq!(request.head.all("X-Real-IP"), [client], "{label}");
            assert_eq!(request.head.all("X-Forwarded-For"), [client], "{label}");
            assert_eq!(client_wire.message().text(), "ok", "{label}");
            // The connection goes on without another one.
            assert_eq!(proxy.record()["client"], client, "{label}");
        }
    }
    assert_eq!(proxy.numbers().proxy_headers_bad, 0);
}

#[test]
fn it_stands_before_the_handshake_and_before_http_2() {
    let backend = Backend::start();
    let proxy = proxied(backend.address(), |settings| {
        settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        settings.h2c = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    });
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let mut secured = TlsClient::new().behind(V1).connect(proxy.addresses[1], Some("a")).wire;
    secured.send(GET);
    assert_eq!(backend.answer(answer).1.head.all("X-Real-IP"), ["198.51.100.7"]);
    let mut wire = Wire::connect(proxy.addresses[2]);
    wire.send(tcp6());
    let mut client = Http2::over(wire);
    let call = client.begin(http::Request::get("http://a/").body(()).unwrap(), true);
    assert_eq!(backend.answer(answer).1.head.all("X-Real-IP"), ["2001:db8::7"]);
    assert_eq!(client.answer(call.response).unwrap().text(), "ok");
}

#[test]
fn what_is_no_header_ends_the_connection() {
    let backend = Backend::start().serve("ok");
    let proxy = proxied(backend, |settings| settings.limits.header_read_timeout = Duration::from_millis(300));
    let long = tcp4(&[&[4, 0x20, 0][..], &[0; 0x2000]].concat());
    let cases: [(&str, &[u8]); 11] = [
        ("a request", GET.as_bytes()),
        ("nothing", b""),
        ("a part", b"PROXY TCP4 198.51.100.7 "),
        ("a part of version 2", &tcp4(&[])[..20]),
        ("no address", b"PROXY TCP4 a b 1 2\r\n"),
        ("no port", b"PROXY TCP4 198.51.100.7 192.0.2.1 99999 443\r\n"),
        ("a line without end", &[b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat()),
        ("a line that ends wrongly", b"PROXY TCP4 198.51.100.7 192.0.2.1 1 2\rX"),
        ("datagrams", &v2(0x21, 0x12, &[0; 12])),
        ("another version", &v2(0x31, 0x11, &[0; 12])),
        ("too many extensions", &long),
    ];
    for (label, bytes) in cases {
        let mut wire = proxy.connect();
        // It may have ended before it has taken all of it.
        let _ = wire.try_send(bytes);
        assert_eq!(wire.rest(), b"", "{label}");
    }
    assert_eq!(proxy.numbers().proxy_headers_bad, cases.len() as u64);
    proxy.wait_for(|numbers| numbers.connections_open == 0);
}

/// Whatever its addresses are said to be: a connection of the proxy's own is one, and any other either says enough or ends.
#[test]
fn a_header_of_any_family_and_length_is_understood_or_ends_its_connection() {
    let backend = Backend::start().serve("ok");
    let proxy = proxied(backend, |settings| settings.workers = 1);
    let get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for family in [0, 0x01, 0x10, 0x11, 0x12, 0x13, 0x21, 0x22, 0x31, 0x32, 0x41, 0xff] {
        for length in 0..=40 {
            let says_enough = match family {
                0 => true,
                0x11 => length >= 12,
                0x21 => length >= 36,
                _ => false,
            };
            for (command, served) in [(0x20, true), (0x21, says_enough)] {
                let mut wire = proxy.connect();
                let _ = wire.try_send([&v2(command, family, &[0; 40][..length]), &get[..]].concat());
                let answer = wire.rest();
                let label = format!("command {command:#x}, family {family:#x}, {length} bytes");
                assert_eq!(answer.starts_with(b"HTTP/1.1 200 "), served, "{label}");
                assert!(served || answer.is_empty(), "{label}");
            }
        }
    }
}

#[test]
fn nobody_else_is_believed() {
    let backend = Backend::start().serve("ok");
    let proxy = Proxy::to_with(backend, |settings| settings.proxy_protocol = Some(set("192.0.2.1")));
    assert_eq!(proxy.exchange(GET).text(), "ok");
    let mut wire = proxy.connect();
    wire.send([V1, GET.as_bytes()].concat());
    wire.message().assert_own(400, "bad_request");
}

#[test]
fn whom_it_names_is_what_trust_and_admission_are_about() {
    let backend = Backend::start();
    let proxy = proxied(backend.address(), |settings| {
        settings.trust = Trust::parse(&["198.51.100.7".to_owned()], None).unwrap();
        settings.allow_peers = Some(set("198.51.100.0/24"));
    });
    let forwarded = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n";
    for (source, client, scheme) in [("198.51.100.7", "203.0.113.9", "https"), ("198.51.100.8", "198.51.100.8", "http")] {
        let mut wire = proxy.connect();
        wire.send(format!("PROXY TCP4 {source} 192.0.2.1 1 2\r\n{forwarded}"));
        let (_upstream, request) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!((request.head.all("X-Real-IP"), request.head.all("X-Forwarded-Proto")), (vec![client], vec![scheme]));
    }
    let mut wire = proxy.connect();
    wire.send(format!("PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n{GET}"));
    assert!(wire.is_reset() || wire.ended());
    assert_eq!(proxy.numbers().connections_refused, 1);
}
