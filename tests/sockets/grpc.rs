//! gRPC through the proxy: the status of our own answers, and calls that go on for long.

use std::{thread, time::Duration};

use bytes::Bytes;
use http::Request;
use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::{
    protocols::{annotated, h2c, to},
    support::{Http2, Http2Backend, Proxy, Refusing, issue, secret},
};

#[test]
fn what_we_answer_ourselves_is_a_status_that_grpc_clients_understand() {
    let proxy = Proxy::with("", h2c);
    let mut client = Http2::connect(proxy.addresses[1]);
    let ask = |kind: &'static str| Request::post("http://a/x.Y/Z").header("content-type", kind).header("te", "trailers").body(()).unwrap();
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc;x=1"] {
        let answer = client.exchange(ask(kind));
        assert_eq!(
            (answer.status(), answer.field("content-type"), answer.field("grpc-status")),
            (200, Some("application/grpc"), Some("12")),
            "{kind}"
        );
        assert_eq!((answer.field("x-nodegate-reason"), answer.text()), (Some("no_route"), ""));
    }
    for kind in ["application/grpc-web", "application/json"] {
        client.exchange(ask(kind)).assert_own(404, "no_route");
    }
    // A backend that is away.
    let refusing = Refusing::start();
    let proxy = to(refusing.address(), &[("backend-protocol", "grpc")]);
    let answer = Http2::connect(proxy.addresses[1]).exchange(ask("application/grpc"));
    assert_eq!(
        (answer.status(), answer.field("grpc-status"), answer.field("grpc-message")),
        (200, Some("14"), Some("The service can't be reached."))
    );
}

/// A call of gRPC that the backend echoes, and its response.
fn call(client: &mut Http2) -> (h2::SendStream<Bytes>, http::Response<h2::RecvStream>) {
    let ask = Request::post("http://a/x.Y/Z").header("content-type", "application/grpc+proto").header("te", "trailers").body(()).unwrap();
    let mut call = client.begin(ask, false);
    call.sending.send_data("hello".into(), false).unwrap();
    let mut answer = client.head(call.response).unwrap();
    assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "hello");
    (call.sending, answer)
}

#[test]
fn a_call_of_grpc_may_rest_and_trickle_as_a_tunnel_may() {
    let short = Duration::from_millis(300);
    let backend = Http2Backend::plain(100);
    let proxy = Proxy::with(&annotated(backend.address, &[("backend-protocol", "grpc")]), |settings| {
        h2c(settings);
        settings.limits.body_rate_grace = short;
        settings.limits.body_idle_timeout = short;
        settings.limits.response_idle_timeout = short;
    });
    let mut client = Http2::connect(proxy.addresses[1]);
    let (mut sending, mut answer) = call(&mut client);
    for _ in 0..3 {
        // A pause in it: longer than anything but a call has.
        thread::park_timeout(4 * short);
        sending.send_data("again".into(), false).unwrap();
        assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "again");
    }
    sending.send_data(Bytes::new(), true).unwrap();
    assert!(client.wait(answer.body_mut().data()).is_none());
    assert_eq!(client.wait(answer.body_mut().trailers()).unwrap().unwrap()["grpc-status"], "0");
}

#[test]
fn a_call_of_grpc_to_a_backend_that_chooses_http_1_1_has_the_clocks_of_any_request() {
    let issued = issue(&PKCS_ECDSA_P256_SHA256, &["service-0.tests.svc"]);
    let backend = Http2Backend::secure(&issued, &["http/1.1"]);
    let yaml = annotated(backend.address, &[("backend-ca-secret", "ca"), ("backend-protocol", "https")]) + &secret("tests", "ca", &issued);
    let proxy = Proxy::with(&yaml, |settings| {
        h2c(settings);
        settings.limits.body_idle_timeout = Duration::from_millis(300);
    });
    let mut client = Http2::connect(proxy.addresses[1]);
    let ask = Request::post("http://a/silent").header("content-type", "application/grpc").body(()).unwrap();
    let call = client.begin(ask, false);
    let answer = client.answer(call.response).unwrap();
    assert_eq!((answer.status(), answer.field("x-nodegate-reason")), (200, Some("client_timeout")), "{answer:?}");
}

#[test]
fn a_call_of_grpc_in_which_nothing_moves_has_an_end() {
    let backend = Http2Backend::plain(100);
    let proxy = Proxy::with(&annotated(backend.address, &[("backend-protocol", "grpc")]), |settings| {
        h2c(settings);
        settings.limits.tunnel_idle_timeout = Duration::from_secs(1);
        settings.limits.response_idle_timeout = Duration::from_millis(300);
    });
    let mut client = Http2::connect(proxy.addresses[1]);
    let (_sending, mut answer) = call(&mut client);
    client.wait(answer.body_mut().data()).unwrap().unwrap_err();
    proxy.wait_for(|numbers| numbers.active_requests == 0);
}
