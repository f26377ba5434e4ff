//! Diagnostics as Events on the objects that they are about: what `kubectl describe` shows, who is told what, and how fast.

use k8s_openapi::{
    api::{
        core::v1::{Event, Namespace, Service},
        networking::v1::Ingress,
    },
    jiff::Timestamp,
};
use kube::{Api, Client, api::ListParams};
use nodegate::{
    compile::OWN_CONTROLLER,
    config::limits::{EVENT_BURST, EVENT_INTERVAL},
};
use serde_json::Value;

use crate::rig::{App, Cluster, Nodegate, eventually, objects};

/// Ingresses that are broken at once.
const MANY: usize = 500;

/// A Nodegate that leads soon: with a Lease of its own, since others run against the same cluster.
pub async fn leader(cluster: &Cluster, lease: &str) -> Nodegate {
    let flags = ["--lease-name", lease, "--lease-duration", "5s", "--pod-name", "nodegate-x7k2p"];
    Nodegate::start_with(&cluster.nodegate_kubeconfig(cluster.api_address()), &flags).await
}

/// Our Events in a namespace: the API server has some of its own, as when it mends the books of a ClusterIP.
async fn ours(client: &Client, namespace: &str) -> Vec<Event> {
    let list = Api::<Event>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.expect("a list");
    let mut events = list.items;
    events.retain(|event| event.reporting_component.as_deref() == Some(OWN_CONTROLLER));
    events
}

/// These as `Type Reason Kind/name message`, sorted.
async fn events(client: &Client, namespace: &str) -> Vec<String> {
    let text = |event: Event| {
        let (object, text) = (event.involved_object, Option::<String>::unwrap_or_default);
        let (kind, name) = (text(object.kind), text(object.name));
        format!("{} {} {kind}/{name} {}", text(event.type_), text(event.reason), text(event.message))
    };
    let mut events: Vec<_> = ours(client, namespace).await.into_iter().map(text).collect();
    events.sort();
    events
}

/// Waits until the Events in a namespace begin with these texts, one each.
pub async fn are(client: &Client, namespace: &str, expected: &[&str]) {
    eventually(&format!("Events in {namespace}"), async || {
        let events = events(client, namespace).await;
        let fit = events.len() == expected.len() && events.iter().zip(expected).all(|(event, begin)| event.starts_with(begin));
        if fit { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_shows_what_is_wrong_then_that_it_is_fixed_through_a_restart_too() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, "described").await;
    objects::create(&client, "described", &objects::ingress("web", "described.example", "app")).await;
    let nodegate = leader(cluster, "described").await;
    let field = "spec.rules[0].http.paths[0].backend.service.name";
    are(&client, "described", &[&format!("Warning UnknownService Ingress/web {field}: ")]).await;

    let description = cluster.kubectl(&["describe", "ingress", "web", "--namespace", "described"]);
    let line = description.lines().find(|line| line.trim_start().starts_with("Warning")).unwrap_or_else(|| panic!("{description}"));
    for part in ["UnknownService", "nodegate.dev/ingress-controller", field, "app", "this path answers 503", "create it"] {
        assert!(line.contains(part), "{part}: {description}");
    }
    assert_eq!(ours(&client, "described").await[0].reporting_instance.as_deref(), Some("nodegate-x7k2p"));

    // Another process meets the Event of the first by its name.
    drop(nodegate);
    let nodegate = leader(cluster, "described").await;
    objects::create(&client, "described", &objects::ingress("new", "new.example", "other")).await;
    are(&client, "described", &["Warning UnknownService Ingress/new", "Warning UnknownService Ingress/web"]).await;

    let _app = App::deploy(&client, "described", "app").await;
    nodegate.serves("described.example", "app").await;
    let fixed = format!("Normal Fixed Ingress/web no longer the case: {field}: there is no Service described/app");
    are(&client, "described", &[&fixed, "Warning UnknownService Ingress/new"]).await;
    let description = cluster.kubectl(&["describe", "ingress", "web", "--namespace", "described"]);
    assert!(description.contains("Fixed") && !description.contains("Warning"), "{description}");

    // The same fault again is the same Event again.
    objects::delete::<Service>(&client, "described", "app").await;
    are(&client, "described", &["Warning UnknownService Ingress/new", "Warning UnknownService Ingress/web"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loser_of_a_conflict_is_told_who_won_and_the_winner_nothing() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, "contested").await;
    let _app = App::deploy(&client, "contested", "app").await;
    for name in ["first", "second"] {
        objects::create(&client, "contested", &objects::ingress(name, "contested.example", "app")).await;
    }
    let _nodegate = leader(cluster, "contested").await;
    are(&client, "contested", &["Warning Conflict Ingress/second spec.rules[0].http.paths[0].path: "]).await;
    let told = events(&client, "contested").await;
    assert!(told[0].contains("belongs to Ingress contested/first"), "{told:?}");

    // Whose object is gone is told nothing: the Event stays as it was.
    objects::delete::<Ingress>(&client, "contested", "second").await;
    objects::create(&client, "contested", &objects::ingress("third", "contested.example", "app")).await;
    are(&client, "contested", &["Warning Conflict Ingress/second", "Warning Conflict Ingress/third"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_are_told_one_by_one_and_who_may_not_write_still_serves() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    for namespace in ["doomed", "many"] {
        objects::create_namespace(&client, namespace).await;
    }
    let _app = App::deploy(&client, "doomed", "app").await;
    objects::create(&client, "doomed", &objects::ingress("web", "doomed.example", "app")).await;
    for number in 0..MANY {
        let name = format!("web-{number:03}");
        objects::create(&client, "many", &objects::ingress(&name, &format!("{name}.example"), "missing")).await;
    }
    cluster.revoke(Some("events")).await;
    let nodegate = leader(&cluster, "nodegate").await;
    let denied = |event: &Value| event["responseStatus"]["code"] == 403;
    eventually("a refusal", async || if cluster.audit("events").iter().any(denied) { Ok(()) } else { Err("none") }).await;
    nodegate.serves("doomed.example", "app").await;
    let lines = || nodegate.log().iter().filter(|line| line.to_string().contains("refuses Events")).count();
    eventually("the refusal is said", async || if lines() > 0 { Ok(()) } else { Err("not yet") }).await;
    assert_eq!((cluster.audit("events").len(), lines()), (1, 1), "asked once, said once");
    drop(nodegate);

    cluster.revoke(None).await;
    let nodegate = leader(&cluster, "nodegate").await;
    eventually("every one is told", async || {
        let told = events(&client, "many").await.len();
        if told == MANY { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    let created: Vec<Value> = cluster.audit("events").into_iter().filter(|event| !denied(event)).collect();
    assert!(created.iter().all(|event| event["verb"] == "create" && event["responseStatus"]["code"] == 201), "{created:#?}");
    assert_eq!(created.len(), MANY, "one request each");
    assert_rate(&created);

    // In a namespace that is being deleted (nothing here finishes that) it isn't tried again and again.
    objects::delete_cluster_wide::<Namespace>(&client, "doomed").await;
    objects::delete::<Service>(&client, "doomed", "app").await;
    nodegate.refuses("doomed.example", 503, "bad_backend").await;
    eventually("the refusal in the namespace that goes", async || {
        let refused = cluster.audit("events").into_iter().filter(|event| event["objectRef"]["namespace"] == "doomed").count();
        if refused > 0 { Ok(()) } else { Err("none") }
    })
    .await;
    objects::delete::<Ingress>(&client, "many", "web-000").await;
    objects::create(&client, "many", &objects::ingress("last", "last.example", "missing")).await;
    eventually("a later finding is told", async || {
        let told = events(&client, "many").await;
        if told.iter().any(|event| event.contains("Ingress/last")) { Ok(()) } else { Err(told.len()) }
    })
    .await;
    let requests: Vec<Value> = cluster.audit("events").into_iter().filter(|event| event["objectRef"]["namespace"] == "doomed").collect();
    // A busy machine may cost it the lead: whoever leads anew asks anew.
    let terms = nodegate.log().iter().filter(|line| line["message"] == "leading").count();
    assert!(requests.iter().all(denied) && (1..=terms).contains(&requests.len()), "{terms} terms: {requests:#?}");
    assert!(!nodegate.log().iter().any(|line| line.to_string().contains("refuses Events")), "nobody is alarmed");
}

/// However slow the machine is: requests come one after the other, each after its token was there.
fn assert_rate(requests: &[Value]) {
    let time = |event: &Value| event["requestReceivedTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok()).expect("a time");
    let mut times: Vec<Timestamp> = requests.iter().map(time).collect();
    times.sort_unstable();
    let burst = usize::try_from(EVENT_BURST).expect("small");
    // The request before the first of a span may still be under way, and clocks that are compared aren't the same.
    let span = burst + 2;
    for (at, pair) in times.iter().zip(times.iter().skip(span + 20)).enumerate() {
        let took = pair.1.duration_since(*pair.0);
        let least = EVENT_INTERVAL * 19;
        assert!(took.unsigned_abs() >= least, "{} requests after the {at}th within {took:?}", span + 20);
    }
}
