//! What can be told without an API server; the rest is tested against a real one.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use kube::{config::AuthInfo, core::Status};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::config::limits::{API_BACKOFF_MAX, API_BACKOFF_MIN, API_RELIST_SPREAD};

async fn cluster(namespaces: &[&str], secrets: bool) -> Cluster {
    let config = Config::new("https://127.0.0.1:1".parse().unwrap());
    Cluster::open(Some(Box::new(config)), namespaces.iter().map(ToString::to_string).collect(), secrets).await.unwrap()
}

#[tokio::test]
async fn classes_are_listed_once_and_everything_else_in_each_namespace() {
    let lists = |cluster: Cluster| cluster.lists().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(lists(cluster(&[], false).await), ["Ingress", "IngressClass", "Service", "EndpointSlice"]);
    assert_eq!(lists(cluster(&[], true).await).last().unwrap(), "Secret");
    let two = lists(cluster(&["a", "b"], true).await);
    assert_eq!(two.len(), 9, "{two:?}");
    assert!(two.contains(&"Service in b".to_owned()) && two.contains(&"IngressClass".to_owned()), "{two:?}");
}

#[tokio::test]
async fn an_api_server_that_is_down_fails_a_single_reading_and_names_what_was_read() {
    // Port 1 on loopback: nobody listens there.
    let config = Config::new("http://127.0.0.1:1".parse().unwrap());
    let error = list_cluster(Some(Box::new(config)), vec![]).await.unwrap_err().to_string();
    assert!(error.starts_with("listing Ingress failed:"), "{error}");
}

/// The head of a request that a client of these credentials sends.
async fn sent(auth_info: AuthInfo) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    config.auth_info = auth_info;
    let client = client(config).unwrap();
    let task = tokio::spawn(async move { client.apiserver_version().await });
    let (_stream, head) = request(&listener).await;
    task.abort();
    head
}

#[tokio::test]
async fn requests_carry_the_token_that_is_given_or_else_that_of_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-the-file\n").unwrap();
    let token_file = Some(file.path().to_str().unwrap().to_owned());
    for (token, expected) in [(None, "from-the-file"), (Some("given"), "given")] {
        let head = sent(AuthInfo { token: token.map(Into::into), token_file: token_file.clone(), ..AuthInfo::default() }).await;
        assert!(head.contains(&format!("authorization: Bearer {expected}\r\n")), "{head}");
    }
    let missing = AuthInfo { token_file: Some("/nowhere/token".to_owned()), ..AuthInfo::default() };
    let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
    config.auth_info = missing;
    let error = client(config).map(drop).unwrap_err().to_string();
    assert!(error.contains("/nowhere/token"), "{error}");
}

#[test]
fn pauses_grow_to_the_cap_and_begin_anew_once_it_works() {
    let mut trouble = Trouble::default();
    let pauses: Vec<Duration> = (0..40).map(|_| trouble.another("Ingress", &watcher::Error::NoResourceVersion)).collect();
    assert!(pauses[0] <= API_BACKOFF_MIN && pauses[0] >= API_BACKOFF_MIN / 2, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= API_BACKOFF_MAX), "{pauses:?}");
    assert!(pauses[39] >= API_BACKOFF_MAX / 2, "{pauses:?}");
    trouble.over("Ingress");
    assert!(trouble.another("Ingress", &watcher::Error::NoResourceVersion) <= API_BACKOFF_MIN);
}

#[tokio::test(start_paused = true)]
async fn pauses_begin_anew_when_the_server_answers_that_the_version_expired_and_after_a_quiet_time() {
    let expired = watcher::Error::WatchError(Box::new(Status { code: 410, ..Status::failure("too old", "Expired") }));
    let mut trouble = Trouble::default();
    let exhaust = |trouble: &mut Trouble| (0..10).for_each(|_| _ = trouble.another("Ingress", &watcher::Error::NoResourceVersion));
    exhaust(&mut trouble);
    assert!(trouble.another("Ingress", &expired) <= API_BACKOFF_MIN);
    exhaust(&mut trouble);
    assert!(trouble.another("Ingress", &expired) > API_BACKOFF_MIN, "only once");
    tokio::time::sleep(API_BACKOFF_MAX * 4).await;
    assert!(
        trouble.another("Ingress", &watcher::Error::NoResourceVersion) > API_BACKOFF_MIN,
        "an answer that takes so long to fail is none"
    );
    trouble.listed("Ingress");
    tokio::time::sleep(API_BACKOFF_MAX * 4).await;
    assert!(trouble.another("Ingress", &watcher::Error::NoResourceVersion) <= API_RELIST_SPREAD, "others' watches may have ended, too");
    assert!(trouble.another("Ingress", &watcher::Error::NoResourceVersion) <= API_BACKOFF_MIN * 2);
}

#[test]
fn only_a_refusal_of_the_request_itself_means_that_streaming_lists_are_unsupported() {
    let api = |code| kube::Error::Api(Box::new(Status { code, ..Status::failure("no", "Invalid") }));
    for (code, expected) in [(400, true), (422, true), (401, false), (403, false), (410, false), (429, false), (500, false)] {
        assert_eq!(unsupported(&watcher::Error::WatchStartFailed(api(code))), expected, "{code}");
    }
    assert!(!unsupported(&watcher::Error::InitialListFailed(api(422))));
}

/// An API server that lists nothing, in a stream and in pages, and refuses every watch that would go on from it because its history is gone.
fn forgetful(request: &http::Request<kube::client::Body>, lists: &mpsc::UnboundedSender<()>) -> http::Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    let (code, answer) = if query.contains("sendInitialEvents=true") {
        lists.send(()).unwrap();
        let metadata = json!({ "resourceVersion": "1", "annotations": { "k8s.io/initial-events-end": "true" } });
        let object = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata });
        (200, json!({ "type": "BOOKMARK", "object": object }))
    } else if query.contains("watch=true") {
        (410, json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410 }))
    } else {
        lists.send(()).unwrap();
        let metadata = json!({ "resourceVersion": "1" });
        (200, json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IngressList", "metadata": metadata, "items": [] }))
    };
    http::Response::builder().status(code).body(Full::from(format!("{answer}\n"))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_lists_anew_and_no_more_often_than_a_failure_allows() {
    let (sender, mut lists) = mpsc::unbounded_channel();
    let client =
        Client::new(tower::service_fn(move |request| std::future::ready(Ok::<_, Infallible>(forgetful(&request, &sender)))), "default");
    let list = List { kind: Kind::Ingress, namespace: None };
    let shared = Shared::new(Stores::new([list.clone()]));
    let pauses = 20;
    tokio::select! {
        () = watch(Api::<DeserializeGuard<Ingress>>::all(client), list, &shared) => unreachable!("it goes on for ever"),
        () = tokio::time::sleep(API_BACKOFF_MAX * pauses) => {}
    }
    let count = std::iter::from_fn(|| lists.try_recv().ok()).count();
    // A pause is at least half of the longest in the end, and shorter at the beginning.
    assert!((usize::try_from(pauses).unwrap()..60).contains(&count), "{count} lists");
}

#[tokio::test]
async fn a_watch_that_is_cut_off_is_not_resumed_from_where_it_was() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    let client = client(config).unwrap();
    let task = tokio::spawn(async move {
        let list = List { kind: Kind::Ingress, namespace: None };
        watch(Api::<DeserializeGuard<Ingress>>::all(client), list.clone(), &Shared::new(Stores::new([list]))).await;
    });
    let metadata = json!({ "resourceVersion": "1716", "annotations": { "k8s.io/initial-events-end": "true" } });
    let object = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata });
    let listed = format!("{}\n", json!({ "type": "BOOKMARK", "object": object }));
    // In the middle of a chunk, or before the next one; the API server was killed.
    for cut in ["", "7\r\n{\"ty"] {
        let (mut stream, first) = request(&listener).await;
        assert!(!first.contains("resourceVersion=1716"), "{first}");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = if first.contains("sendInitialEvents=true") {
            format!("{:x}\r\n{listed}\r\n", listed.len())
        } else {
            // A list in pages; what follows it is a watch.
            let list =
                json!({ "apiVersion": "v1", "kind": "IngressList", "metadata": { "resourceVersion": "1716" }, "items": [] }).to_string();
            stream.write_all(format!("{head}{:x}\r\n{list}\r\n0\r\n\r\n", list.len()).as_bytes()).await.unwrap();
            let then = read_head(&mut stream).await;
            assert!(then.contains("watch=true") && then.contains("resourceVersion=1716"), "{then}");
            String::new()
        };
        stream.write_all(format!("{head}{answer}{cut}").as_bytes()).await.unwrap();
    }
    let (_stream, last) = request(&listener).await;
    assert!(!last.contains("resourceVersion=1716"), "{last}");
    task.abort();
}

async fn request(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = read_head(&mut stream).await;
    (stream, head)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "the client is gone");
    }
    String::from_utf8(head).unwrap()
}
