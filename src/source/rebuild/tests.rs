//! The loop's timing, in paused time, and what it publishes and counts.

use super::*;
use crate::{
    source::{
        object::Stored,
        stores::{Change, List, Stores, Version},
    },
    table::{self, Reader},
};
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::json;

struct Rig {
    shared: Arc<Shared>,
    report: watch::Receiver<Report>,
    table: Reader,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A loop over empty stores that await one list.
fn rig() -> Rig {
    let shared = Arc::new(Shared::new(Stores::new([list()])));
    let (publisher, table) = table::channel();
    let (sender, report) = watch::channel(Report::default());
    let inner = Arc::clone(&shared);
    let task = tokio::spawn(async move {
        let Err(error) = run(&inner, Pace::DEBOUNCED, Options::default(), publisher, &sender).await;
        panic!("{error}");
    });
    Rig { shared, report, table, task }
}

fn list() -> List {
    List { kind: Kind::Ingress, namespace: None }
}

fn ingress(host: &str) -> Version {
    let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}});
    let value = json!({"metadata": {"name": "i", "namespace": "n"},
        "spec": {"ingressClassName": "nodegate", "rules": [{"host": host, "http": {"paths": [path]}}]}});
    Version::Decoded(serde_json::from_value::<Ingress>(value).unwrap().into_object())
}

fn refused(host: &str) -> Version {
    let path = json!({"path": "not-absolute", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}});
    let value = json!({"metadata": {"name": "i", "namespace": "n"},
        "spec": {"ingressClassName": "nodegate", "rules": [{"host": host, "http": {"paths": [path]}}]}});
    Version::Decoded(serde_json::from_value::<Ingress>(value).unwrap().into_object())
}

impl Rig {
    fn apply(&self, change: Change) {
        self.shared.apply([change], None, Instant::now());
    }

    fn upsert(&self, host: &str) {
        self.apply(Change::Upsert(ingress(host)));
    }

    async fn rebuilt(&mut self) -> Report {
        self.report.changed().await.unwrap();
        self.report.borrow_and_update().clone()
    }

    fn serves(&mut self, host: &str) -> bool {
        self.table.load().snapshot.find(host, "/").is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_before_every_list_is_complete() {
    let mut rig = rig();
    rig.upsert("a.example");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!rig.report.has_changed().unwrap());
    rig.apply(Change::ReplaceAll { list: list(), versions: vec![ingress("a.example")] });
    let report = rig.rebuilt().await;
    assert!(report.ready && report.generation == 1 && report.published_at.is_some());
    assert!(rig.serves("a.example"));
    assert!(report.config_to_live_sum < 1.0, "the wait for the lists isn't counted: {}", report.config_to_live_sum);
}

#[tokio::test(start_paused = true)]
async fn an_empty_cluster_is_ready_too() {
    let mut rig = rig();
    rig.apply(Change::ReplaceAll { list: list(), versions: vec![] });
    let report = rig.rebuilt().await;
    assert!(report.ready);
    assert_eq!(report.generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_rebuild_and_a_storm_cannot_put_it_off_beyond_the_ceiling() {
    let mut rig = rig();
    rig.apply(Change::ReplaceAll { list: list(), versions: vec![] });
    let mut report = rig.rebuilt().await;
    assert_eq!(report.rebuilds, 1);

    for number in 0..5 {
        rig.upsert(&format!("h{number}.example"));
        tokio::time::sleep(REBUILD_DEBOUNCE / 4).await;
    }
    report = rig.rebuilt().await;
    assert_eq!((report.rebuilds, report.generation), (2, 2));
    assert!(rig.serves("h4.example") && !rig.serves("h0.example"));

    let begun = Instant::now();
    let mut number = 0;
    while !rig.report.has_changed().unwrap() {
        rig.upsert(&format!("s{number}.example"));
        number += 1;
        tokio::time::sleep(REBUILD_DEBOUNCE / 4).await;
        assert!(begun.elapsed() < REBUILD_CEILING * 2, "the storm starves the rebuild");
    }
    assert!(begun.elapsed() + REBUILD_DEBOUNCE >= REBUILD_CEILING, "debounced until the ceiling, not rebuilt at each event");
    let report = rig.rebuilt().await;
    let slow = REBUILD_CEILING.as_secs_f64();
    assert!(report.config_to_live_sum >= slow, "measured from the first event: {}", report.config_to_live_sum);
    assert_eq!(report.config_to_live[CONFIG_TO_LIVE_BUCKETS.len()], 3);
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_is_not_published_but_counted_and_diagnosed() {
    let mut rig = rig();
    rig.apply(Change::ReplaceAll { list: list(), versions: vec![ingress("a.example")] });
    let first = rig.rebuilt().await;
    rig.apply(Change::Delete(Key { kind: Kind::Service, namespace: "n".into(), name: "never-there".into() }));
    let second = rig.rebuilt().await;
    assert_eq!((second.generation, second.rebuilds, second.config_to_live), (first.generation, 2, first.config_to_live));

    rig.apply(Change::Upsert(refused("b.example")));
    let third = rig.rebuilt().await;
    assert_eq!(third.generation, first.generation);
    assert!(rig.serves("a.example") && !rig.serves("b.example"));
    let new: Vec<_> = third.diagnostics.iter().filter(|found| !first.diagnostics.contains(found)).map(ToString::to_string).collect();
    assert!(!new.is_empty() && new[0].contains("the previous version stays in force"), "{new:?}");

    rig.upsert("b.example");
    let fourth = rig.rebuilt().await;
    assert_eq!(fourth.generation, first.generation + 1);
    assert_eq!(fourth.diagnostics.len(), first.diagnostics.len());
    assert!(rig.serves("b.example"));
}

/// Of the Ingress `name`, a version with these addresses in its status, kept by somebody.
fn bearing(name: &str, class: &str, version: &str, address: Option<&str>) -> Version {
    let addresses: Vec<_> = address.iter().map(|address| json!({"ip": address})).collect();
    let keeper = json!({"manager": "m", "subresource": "status", "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}});
    let value = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": version, "managedFields": [keeper]},
        "spec": {"ingressClassName": class, "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
        "status": {"loadBalancer": {"ingress": addresses}},
    });
    Version::Decoded(serde_json::from_value::<Ingress>(value).unwrap().into_object())
}

#[tokio::test(start_paused = true)]
async fn a_status_is_reported_without_a_rebuild() {
    let mut rig = rig();
    let versions = vec![bearing("ours", "nodegate", "1", None), bearing("theirs", "other", "2", None)];
    rig.apply(Change::ReplaceAll { list: list(), versions });
    assert_eq!(rig.rebuilt().await.rebuilds, 1);

    for (name, class, version) in [("ours", "nodegate", "3"), ("theirs", "other", "4")] {
        rig.apply(Change::Upsert(bearing(name, class, version, Some("192.0.2.1"))));
    }
    let report = rig.rebuilt().await;
    assert_eq!(report.rebuilds, 1, "no table is made of a status");
    let mut seen: Vec<_> =
        report.ingresses.iter().map(|served| (served.object.metadata.name.as_deref().unwrap(), served.accepted)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("ours", true), ("theirs", false)]);
    for served in report.ingresses.iter() {
        let addresses = served.object.status.clone().and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
        assert_eq!(addresses.first().and_then(|address| address.ip.as_deref()), Some("192.0.2.1"), "the version shown is the newest");
    }

    // Together with a change that matters, whichever comes first, and although the status came last.
    rig.apply(Change::Upsert(bearing("theirs", "nodegate", "5", None)));
    rig.apply(Change::Upsert(bearing("theirs", "nodegate", "6", Some("192.0.2.1"))));
    let report = rig.rebuilt().await;
    assert_eq!(report.rebuilds, 2);
    assert!(report.ingresses.iter().all(|served| served.accepted), "the class counts");
}

#[test]
fn the_histogram_is_cumulative() {
    let mut report = Report::default();
    for millis in [10, 30, 30, 450, 90_000] {
        count(&mut report, Duration::from_millis(millis));
    }
    assert_eq!(report.config_to_live, [1, 3, 3, 3, 3, 4, 4, 4, 5]);
    assert!((report.config_to_live_sum - 90.52).abs() < 1e-9);
}

/// The Ingress of the other tests, in a version of an API server.
fn numbered(host: &str, path: &str, version: &str) -> Version {
    let path = json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}});
    let value = json!({"metadata": {"name": "i", "namespace": "n", "uid": "u", "resourceVersion": version},
        "spec": {"ingressClassName": "nodegate", "rules": [{"host": host, "http": {"paths": [path]}}]}});
    Version::Decoded(serde_json::from_value::<Ingress>(value).unwrap().into_object())
}

#[tokio::test(start_paused = true)]
async fn a_report_covers_the_versions_that_were_taken_in_and_names_those_that_are_not_in_force() {
    let mut rig = rig();
    let list_of = |version| Change::ReplaceAll { list: list(), versions: vec![version] };
    let steps = [
        ("a list", list_of(numbered("a.example", "/", "5")), "5", 0),
        ("nothing but a status", Change::Upsert(numbered("a.example", "/", "7")), "7", 0),
        ("another table", Change::Upsert(numbered("b.example", "/", "8")), "8", 0),
        ("a version that is no good", Change::Upsert(numbered("b.example", "not-absolute", "9")), "9", 1),
        ("one that is", Change::Upsert(numbered("b.example", "/", "11")), "11", 0),
        ("a backup", list_of(numbered("a.example", "/", "4")), "4", 0),
    ];
    for (step, change, covered, held) in steps {
        rig.apply(change);
        let report = rig.rebuilt().await;
        assert_eq!((report.coverage.to_string().as_str(), report.held.len()), (covered, held), "{step}");
    }
    assert!(rig.serves("a.example"));
}
