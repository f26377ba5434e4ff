//! What can be told without an API server; the rest is tested against a real one.

use super::*;
use kube::core::Status;

async fn cluster(namespaces: &[&str]) -> Cluster {
    let config = Config::new("https://127.0.0.1:1".parse().unwrap());
    Cluster::open(Some(Box::new(config)), namespaces.iter().map(ToString::to_string).collect()).await.unwrap()
}

#[tokio::test]
async fn classes_are_listed_once_and_everything_else_in_each_namespace() {
    let lists = |cluster: Cluster| cluster.lists().iter().map(describe).collect::<Vec<_>>();
    assert_eq!(lists(cluster(&[]).await), ["Ingress", "IngressClass", "Service", "EndpointSlice", "Secret"]);
    let two = lists(cluster(&["a", "b"]).await);
    assert_eq!(two.len(), 9, "{two:?}");
    assert!(two.contains(&"Secret in b".to_owned()) && two.contains(&"IngressClass".to_owned()), "{two:?}");
}

#[tokio::test]
async fn an_api_server_that_is_down_fails_a_single_reading_and_names_what_was_read() {
    // Port 1 on loopback: nobody listens there.
    let config = Config::new("http://127.0.0.1:1".parse().unwrap());
    let error = list_cluster(Some(Box::new(config)), vec![]).await.unwrap_err().to_string();
    assert!(error.starts_with("listing Ingress failed:"), "{error}");
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
    assert!(trouble.another("Ingress", &watcher::Error::NoResourceVersion) <= API_BACKOFF_MIN);
}

#[test]
fn only_a_refusal_of_the_request_itself_means_that_streaming_lists_are_unsupported() {
    let api = |code| kube::Error::Api(Box::new(Status { code, ..Status::failure("no", "Invalid") }));
    for (code, expected) in [(400, true), (422, true), (401, false), (403, false), (410, false), (429, false), (500, false)] {
        assert_eq!(unsupported(&watcher::Error::WatchStartFailed(api(code))), expected, "{code}");
    }
    assert!(!unsupported(&watcher::Error::InitialListFailed(api(422))));
}
