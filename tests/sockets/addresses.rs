//! Services and names with several addresses, some of which lead nowhere.

use std::net::SocketAddr;

use http::Request;

use crate::{
    dials::Silent,
    support::{Backend, Http2, Http2Backend, PATIENCE, Proxy, manifest},
};

const AT_ONCE: usize = 20;
/// An address that refuses connections.
const REFUSES: &str = "127.43.99.77";

/// A proxy that leads everything to one Service with these addresses, and speaks this protocol with them.
fn proxy(addresses: &[&str], port: u16, protocol: &str) -> Proxy {
    let yaml = manifest(&[("", "/", SocketAddr::from(([127, 0, 0, 1], port)))])
        .replace("clusterIP: 127.0.0.1", &format!("clusterIP: {}, clusterIPs: [{}]", addresses[0], addresses.join(", ")))
        .replace("name: ingress-0,", &format!("name: ingress-0, annotations: {{ nodegate.dev/backend-protocol: {protocol} }},"));
    Proxy::with(&yaml, |settings| {
        settings.workers = 1;
        settings.h2c = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    })
}

/// Several at the same time. Returns how many have got an answer of the backend.
fn served(client: &mut Http2) -> usize {
    let calls: Vec<_> = (0..AT_ONCE).map(|_| client.begin(Request::get("http://a/").body(()).unwrap(), true).response).collect();
    client.answers(calls).iter().filter(|answer| answer.status() == 200).count()
}

#[test]
fn an_address_that_leads_nowhere_costs_no_request_where_another_one_answers() {
    let backend = Http2Backend::plain(100);
    let silent = Silent::start_at(backend.address.port());
    for (label, dead) in [("refuses", REFUSES.to_owned()), ("is silent", silent.address().ip().to_string())] {
        let proxy = proxy(&[&dead, "127.0.0.1"], backend.address.port(), "h2c");
        let mut client = Http2::connect(proxy.addresses[1]);
        assert_eq!([(); 4].map(|()| served(&mut client)), [AT_ONCE; 4], "one address {label}");
    }
}

#[test]
fn the_last_of_three_is_found() {
    let backend = Http2Backend::plain(100);
    let silent = Silent::start_at(backend.address.port());
    let proxy = proxy(&[REFUSES, &silent.address().ip().to_string(), "127.0.0.1"], backend.address.port(), "h2c");
    let mut client = Http2::connect(proxy.addresses[1]);
    assert_eq!([(); 2].map(|()| served(&mut client)), [AT_ONCE; 2]);
}

#[test]
fn where_all_refuse_everybody_is_told_so() {
    let proxy = proxy(&[REFUSES, "127.43.99.78"], 9, "h2c");
    let mut client = Http2::connect(proxy.addresses[1]);
    let calls: Vec<_> = (0..AT_ONCE).map(|_| client.begin(Request::get("http://a/").body(()).unwrap(), true).response).collect();
    client.answers(calls).iter().for_each(|answer| answer.assert_own(502, "upstream_connect"));
}

#[test]
fn which_address_answers_is_remembered() {
    let backend = Backend::start().serve_each(|_, mut wire| {
        while wire.stirs(PATIENCE) && !wire.ended() {
            wire.message();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = proxy(&[REFUSES, &backend.ip().to_string()], backend.port(), "http");
    (0..5).for_each(|_| assert_eq!(proxy.get("a", "/").text(), "ok"));
    let numbers = proxy.numbers();
    assert_eq!((numbers.upstream_dials, numbers.upstream_reused), (2, 4));
}
