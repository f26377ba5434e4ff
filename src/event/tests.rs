//! Who writes, and when, against an API server that is a function. What is written is tested against a real one.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use bytes::Bytes;
use http_body_util::Full;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::{
    compile::{Diagnostic, Subject},
    source::{Identity, ObjectName},
};

/// An API server that stores whatever it is sent, and tells what was asked of it.
fn server() -> (Client, UnboundedReceiver<String>) {
    let (asked, requests) = unbounded_channel();
    let answer = move |request: http::Request<kube::client::Body>| {
        asked.send(format!("{} {}", request.method(), request.uri().path())).unwrap();
        let body = Full::from(Bytes::from_static(br#"{"metadata":{},"involvedObject":{},"count":1}"#));
        std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
    };
    (Client::new(tower::service_fn(answer), "default"), requests)
}

fn report(kind: &'static str, namespace: &str, messages: &[&str]) -> Report {
    let name = ObjectName { kind, namespace: namespace.into(), name: "web".into() };
    let subject = || Subject::Object { kind, namespace: namespace.into(), name: "web".into(), field: String::new() };
    let identity = Identity { api_version: "v1", uid: "u".into() };
    Report {
        diagnostics: messages.iter().map(|message| Diagnostic::error("conflict", subject(), *message, "mend it")).collect(),
        identities: Arc::new([(name, identity)].into()),
        ..Report::default()
    }
}

fn taken(requests: &mut UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| requests.try_recv().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_writes_and_a_new_one_begins_anew() {
    const WHILE: Duration = Duration::from_secs(10);
    let (client, mut requests) = server();
    let (leading, role) = watch::channel(None);
    let (reports, report_receiver) = watch::channel(report("Ingress", "n", &["bad"]));
    let (tally, numbers) = watch::channel(Tally::default());
    let reporter = Reporter { controller: "nodegate.dev/ingress-controller".into(), instance: "pod".into(), namespace: "home".into() };
    let task = tokio::spawn(run(client, reporter, report_receiver, watch::channel(None).1, Role::from_channel(role), tally));
    time::sleep(WHILE).await;
    assert_eq!(taken(&mut requests), Vec::<String>::new());

    let term = || Some(Clock::now() + Duration::from_hours(1));
    leading.send_replace(term());
    time::sleep(WHILE).await;
    assert_eq!(taken(&mut requests), ["POST /api/v1/namespaces/n/events"]);
    reports.send_replace(report("Ingress", "n", &["bad", "worse"]));
    time::sleep(WHILE).await;
    assert_eq!(taken(&mut requests), ["POST /api/v1/namespaces/n/events"]);
    assert_eq!(*numbers.borrow(), Tally { written: 2, errors: 0, pending: 0 });

    leading.send_replace(None);
    reports.send_replace(report("Ingress", "n", &["bad", "worse", "worst"]));
    time::sleep(WHILE).await;
    assert_eq!(taken(&mut requests), Vec::<String>::new());
    leading.send_replace(term());
    time::sleep(WHILE).await;
    assert_eq!(taken(&mut requests).len(), 3, "it can't know what the leader in between wrote");
    task.abort();
}

/// What is found and gone within two seconds is nobody's to be told: the number of those to be told says so at once, though there is nothing to do.
#[tokio::test(start_paused = true)]
async fn what_is_gone_before_it_was_told_is_not_pending() {
    let (client, mut requests) = server();
    let (_leading, role) = watch::channel(Some(Clock::now() + Duration::from_hours(1)));
    let (reports, report_receiver) = watch::channel(report("Ingress", "n", &["old"]));
    let (tally, numbers) = watch::channel(Tally::default());
    let reporter = Reporter { controller: "nodegate.dev/ingress-controller".into(), instance: "pod".into(), namespace: "home".into() };
    let task = tokio::spawn(run(client, reporter, report_receiver, watch::channel(None).1, Role::from_channel(role), tally));
    time::sleep(Duration::from_secs(10)).await;
    assert_eq!(taken(&mut requests).len(), 1);
    for (found, pending) in [(&["old", "bad"][..], 1), (&["old"], 0)] {
        reports.send_replace(report("Ingress", "n", found));
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(numbers.borrow().pending, pending);
    }
    assert_eq!(taken(&mut requests), Vec::<String>::new());
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn events_of_objects_without_a_namespace_are_in_the_default_one() {
    let (client, mut requests) = server();
    let (_leading, role) = watch::channel(Some(Clock::now() + Duration::from_hours(1)));
    let (_reports, report_receiver) = watch::channel(report("IngressClass", "", &["bad"]));
    let (tally, _numbers) = watch::channel(Tally::default());
    let reporter = Reporter { controller: "nodegate.dev/ingress-controller".into(), instance: "pod".into(), namespace: "home".into() };
    let task = tokio::spawn(run(client, reporter, report_receiver, watch::channel(None).1, Role::from_channel(role), tally));
    time::sleep(Duration::from_secs(10)).await;
    assert_eq!(taken(&mut requests), ["POST /api/v1/namespaces/default/events"]);
    task.abort();
}
