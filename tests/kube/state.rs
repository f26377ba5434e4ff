//! What is kept on disk: served where no API server answers at the start, and never in the way of what the API server says.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use k8s_openapi::api::{core::v1::Secret, networking::v1::Ingress};
use serde_json::{Value, json};
use tokio::time::interval;

use crate::{
    issued::issue,
    rig::{App, Cluster, Directory, Forwarder, Load, Nodegate, WATCHED, eventually, get, objects, tell},
};

const NAMESPACE: &str = "state";
/// Longer than the API server takes to list a few objects.
const API_TIMEOUT: Duration = Duration::from_secs(4);

/// A Nodegate that keeps its state there.
pub async fn keeping(kubeconfig: &Path, directory: &Path, more: &[&str]) -> Nodegate {
    let (directory, timeout) = (directory.to_str().expect("a path in UTF-8"), format!("{}s", API_TIMEOUT.as_secs()));
    Nodegate::start_with(kubeconfig, &[&["--state-dir", directory, "--api-timeout", timeout.as_str()], more].concat()).await
}

/// Waits until what is on disk has this in it.
pub async fn holds(directory: &Path, text: &str) {
    eventually(&format!("{text} is on disk"), async || {
        let content = fs::read_to_string(directory.join("objects")).map_err(|error| error.to_string())?;
        if content.contains(text) { Ok(()) } else { Err(content) }
    })
    .await;
}

/// Waits until it has logged a line like this.
pub async fn logs(nodegate: &Nodegate, what: &str, is_it: impl Fn(&Value) -> bool) {
    eventually(what, async || {
        let log = nodegate.log();
        if log.iter().any(&is_it) { Ok(()) } else { Err(format!("{log:#?}")) }
    })
    .await;
}

/// A line that has this in its message.
pub fn says(line: &Value, text: &str) -> bool {
    line["message"].to_string().contains(text)
}

/// Asks it to end, and waits for that.
pub async fn end(mut nodegate: Nodegate) {
    nodegate.terminate();
    nodegate.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_api_server_a_start_serves_what_was_served_last() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    for (name, host) in [("kept", "kept.example"), ("doomed", "doomed.example")] {
        objects::create(&client, NAMESPACE, &objects::ingress(name, host, "app")).await;
    }
    let mut forwarder = Forwarder::open(cluster.api_address()).await;
    let kubeconfig = cluster.nodegate_kubeconfig(forwarder.address());
    let directory = Directory::create("state");
    let mut first = keeping(&kubeconfig, directory.path(), &[]).await;
    first.ready().await;
    holds(directory.path(), "doomed.example").await;
    // What comes later is there, too.
    objects::create(&client, NAMESPACE, &objects::ingress("late", "late.example", "app")).await;
    holds(directory.path(), "late.example").await;
    end(first).await;

    forwarder.cut().await;
    let began = Instant::now();
    let mut second = keeping(&kubeconfig, directory.path(), &[]).await;
    let answer = second.readyz().await.expect("an answer");
    assert_eq!(answer.status, 503, "the API server is given its time: {answer}");
    second.ready().await;
    let took = began.elapsed();
    assert!(took >= API_TIMEOUT, "ready after {took:?}");
    tell(&format!("without an API server, ready {took:.1?} after the start, with a timeout of {API_TIMEOUT:?}"));
    for host in ["kept.example", "doomed.example", "late.example"] {
        let answer = get(second.http, host, "/").await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "app"), "{host} right after ready");
    }
    let age = second.metric("nodegate_state_served_age_seconds").await;
    assert!(age.is_ok_and(|age| age < 120), "how old it is");
    let said = second.log().iter().any(|line| line["level"] == "WARN" && says(line, "serving what was on disk"));
    assert!(said, "{:#?}", second.log());

    // Over to what there is by now, without a failure.
    let load = Load::begin(second.http, "kept.example", "app");
    objects::delete::<Ingress>(&client, NAMESPACE, "doomed").await;
    objects::create(&client, NAMESPACE, &objects::ingress("new", "new.example", "app")).await;
    forwarder.restore().await;
    second.serves("new.example", "app").await;
    second.refuses("doomed.example", 404, "no_route").await;
    load.end().await;
    assert!(second.metric("nodegate_state_served_age_seconds").await.is_err(), "it isn't served any more");
    holds(directory.path(), "new.example").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_disk_and_no_good_is_set_aside_and_nothing_else_happens() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, "unusable").await;
    let _app = App::deploy(&client, "unusable", "app").await;
    objects::create(&client, "unusable", &objects::ingress("web", "unusable.example", "app")).await;
    let kubeconfig = cluster.nodegate_kubeconfig(cluster.api_address());
    let directory = Directory::create("state");
    directory.write("objects", "{\"format\":\"nodegate-state\",\"version\":1}\nIngress {}\n");
    let mut nodegate = keeping(&kubeconfig, directory.path(), &[]).await;
    nodegate.ready().await;
    nodegate.serves("unusable.example", "app").await;
    holds(directory.path(), "unusable.example").await;
    let kept = fs::read_to_string(directory.path().join("objects.unusable")).expect("what was there");
    assert!(kept.ends_with("Ingress {}\n"), "{kept}");
    let said = |log: &[Value]| log.iter().any(|line| line["code"] == "state_unusable" && line["level"] == "WARN");
    assert!(said(&nodegate.log()), "{:#?}", nodegate.log());

    // Where it can't be kept, it is served all the same, and somebody is told.
    let file = directory.write("file", "");
    let mut nodegate = keeping(&kubeconfig, &file.join("state"), &[]).await;
    nodegate.ready().await;
    nodegate.serves("unusable.example", "app").await;
    eventually("it is counted", async || {
        nodegate.metric("nodegate_state_errors_total").await.and_then(|count| if count > 0 { Ok(()) } else { Err(String::new()) })
    })
    .await;
    logs(&nodegate, "it is said", |line| line["code"] == "state_not_kept").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_on_disk_only_where_a_flag_asks_for_it() {
    let cluster = Cluster::start().await;
    cluster.grant(&[&WATCHED[..], &[("", "secrets")]].concat()).await;
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    let secret = issue(&rcgen::PKCS_ECDSA_P256_SHA256, &["secure.example"]).secret(NAMESPACE, "cert");
    objects::create::<Secret>(&client, NAMESPACE, &objects::object(secret)).await;
    let mut web = serde_json::to_value(objects::ingress("web", "secure.example", "app")).expect("JSON");
    web["spec"]["tls"] = json!([{ "hosts": ["secure.example"], "secretName": "cert" }]);
    objects::create::<Ingress>(&client, NAMESPACE, &objects::object(web)).await;
    let mut forwarder = Forwarder::open(cluster.api_address()).await;
    let kubeconfig = cluster.nodegate_kubeconfig(forwarder.address());
    let explained = async |nodegate: &Nodegate| get(nodegate.admin, "localhost", "/explain?url=https://secure.example/").await;
    let certificate = format!("tls        ECDSA {NAMESPACE}/cert, of Ingress {NAMESPACE}/web");
    for (flags, expected) in [(&["--https", "127.0.0.1:0"][..], false), (&["--https", "127.0.0.1:0", "--persist-secrets"], true)] {
        let directory = Directory::create("state");
        let mut nodegate = keeping(&kubeconfig, directory.path(), flags).await;
        nodegate.ready().await;
        holds(directory.path(), "secure.example").await;
        let content = fs::read_to_string(directory.path().join("objects")).expect("what is on disk");
        assert_eq!(content.lines().any(|line| line.starts_with("Secret ")), expected, "with {flags:?}");
        assert_eq!(content.contains("tls.key"), expected, "with {flags:?}");
        end(nodegate).await;

        forwarder.cut().await;
        let mut nodegate = keeping(&kubeconfig, directory.path(), flags).await;
        nodegate.ready().await;
        let page = explained(&nodegate).await.expect("a page").body;
        assert_eq!(page.contains(&certificate), expected, "with {flags:?}: {page}");
        nodegate.serves("secure.example", "app").await;
        forwarder.restore().await;
        eventually("the certificate is there", async || {
            let page = explained(&nodegate).await?.body;
            if page.contains(&certificate) { Ok(()) } else { Err(page) }
        })
        .await;
        end(nodegate).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_refuses_is_not_hidden_behind_what_is_on_disk() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    objects::create(&client, NAMESPACE, &objects::ingress("web", "web.example", "app")).await;
    let kubeconfig = cluster.nodegate_kubeconfig(cluster.api_address());
    let directory = Directory::create("state");
    let mut first = keeping(&kubeconfig, directory.path(), &[]).await;
    first.ready().await;
    holds(directory.path(), "web.example").await;
    end(first).await;

    // A new version that wants to read more than it may: it is to fail, so that its rollout stops.
    let flags = ["--https", "127.0.0.1:0"];
    let mut second = keeping(&kubeconfig, directory.path(), &flags).await;
    logs(&second, "it is said", |line| line["level"] == "ERROR" && says(line, "isn't served in its place")).await;
    assert_eq!(second.readyz().await.map(|answer| answer.status), Ok(503));
    cluster.grant(&[&WATCHED[..], &[("", "secrets")]].concat()).await;
    second.ready().await;
    second.serves("web.example", "app").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_disk_is_not_served_in_the_place_of_a_process_that_serves() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, "beside").await;
    let _app = App::deploy(&client, "beside", "app").await;
    objects::create(&client, "beside", &objects::ingress("web", "beside.example", "app")).await;
    let mut forwarder = Forwarder::open(cluster.api_address()).await;
    let kubeconfig = cluster.nodegate_kubeconfig(forwarder.address());
    let directory = Directory::create("state");
    let name = format!("state-{}", std::process::id());
    let flags = ["--handover", name.as_str()];
    let mut first = keeping(&kubeconfig, directory.path(), &flags).await;
    first.ready().await;
    holds(directory.path(), "beside.example").await;

    forwarder.cut().await;
    let mut second = keeping(&kubeconfig, directory.path(), &flags).await;
    logs(&second, "it would serve from disk", |line| says(line, "serving what was on disk")).await;
    let mut ticks = interval(Duration::from_millis(50));
    for _ in 0..20 {
        ticks.tick().await;
        assert_eq!(second.readyz().await.map(|answer| answer.status), Ok(503), "the other one knows more");
    }
    first.serves("beside.example", "app").await;
    end(first).await;
    second.ready().await;
    second.serves("beside.example", "app").await;
}
