//! Which addresses an Ingress bears: those of nodes where a pod is Ready, and no others.

use std::time::Duration;

use jiff::Timestamp;
use nodegate::config::limits::STATUS_REMOVAL_HOLD;

use super::*;
use crate::rig::get;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_where_a_pod_is_ready_are_told_sorted_and_once() {
    let (site, kubeconfig, _app) = begin("status-filled").await;
    let _second = site.member(&kubeconfig, "b", "192.0.2.12").await;
    site.bears("web", &["192.0.2.12"]).await;

    // An ExternalIP is what clients use; of both families, where there are both. Two nodes may share one.
    let external = [("InternalIP", "198.51.100.3"), ("ExternalIP", "2001:db8::3"), ("ExternalIP", "192.0.2.3"), ("Hostname", "c")];
    site.node("c", &external).await;
    site.node("d", &[("ExternalIP", "192.0.2.3"), ("InternalIP", "198.51.100.4")]).await;
    for pod in ["c", "d"] {
        site.pod(pod, pod).await;
        site.pod_ready(pod, true).await;
    }
    site.bears("web", &["192.0.2.3", "192.0.2.12", "2001:db8::3"]).await;

    // Somebody else's pod tells nothing of us, and neither does one of ours that isn't Ready.
    site.node("e", &[("InternalIP", "192.0.2.5")]).await;
    site.foreign_pod("e", "e").await;
    site.pod_ready("e", true).await;
    site.node("f", &[("InternalIP", "192.0.2.6")]).await;
    site.pod("f", "f").await;
    site.pod_ready("d", false).await;
    site.pod_ready("c", false).await;
    site.bears("web", &["192.0.2.12"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_addresses_take_the_place_of_the_nodes() {
    let (site, kubeconfig, _app) = begin("status-published").await;
    let site = site.with(&["--publish-address", "lb.example.com,192.0.2.77"]);
    let both = ["192.0.2.77", "lb.example.com"];
    let mut first = site.member(&kubeconfig, "a", "192.0.2.1").await;
    site.bears("web", &both).await;
    let mut last = site.member(&kubeconfig, "b", "192.0.2.2").await;
    let history = site.history("web").await;
    site.pod_terminates("a").await;
    first.terminate();
    first.ended().await;
    site.pod_gone("a").await;
    eventually("the other leads", async || match site.holder().await.as_deref() {
        Some("b") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    objects::create(&site.client, site.namespace, &objects::ingress("late", "late.example", "app")).await;
    site.bears("late", &both).await;
    assert_eq!(history.changes().await, [both], "they aren't a node's");

    site.pod_terminates("b").await;
    last.terminate();
    last.ended().await;
    assert_eq!(history.changes().await, [&both[..], &[]], "nobody is left to whom they lead");
    assert_eq!((site.borne("late").await, site.holder().await), (vec![], None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_addresses_stay_where_no_pod_is_known() {
    let (site, kubeconfig, _app) = begin("status-published-anonymous").await;
    let site = site.with(&["--publish-address", "192.0.2.77"]);
    let flags: Vec<&str> = site.flags.iter().map(String::as_str).collect();
    let mut nodegate = Nodegate::start_with(&kubeconfig, &flags).await;
    site.bears("web", &["192.0.2.77"]).await;
    nodegate.terminate();
    nodegate.ended().await;
    assert_eq!(site.borne("web").await, ["192.0.2.77"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_bears_addresses_only_once_the_leader_serves_it() {
    let (site, kubeconfig, _app) = begin("status-served").await;
    let nodegate = site.member(&kubeconfig, "a", "192.0.2.1").await;
    site.bears("web", &["192.0.2.1"]).await;

    let newest = site.ingresses().list(&kube::api::ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = Box::pin(site.ingresses().watch(&WatchParams::default(), &newest).await.unwrap());
    for number in 0..20 {
        let (name, host) = (format!("one-{number}"), format!("one-{number}.example"));
        objects::create(&site.client, site.namespace, &objects::ingress(&name, &host, "app")).await;
        loop {
            match events.next().await.expect("an event").expect("no error") {
                WatchEvent::Modified(ingress) if !addresses(&ingress).is_empty() => break,
                WatchEvent::Added(_) | WatchEvent::Modified(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let answer = get(nodegate.http, &host, "/").await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "app"), "{host}, as soon as it bears an address");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_withdrawn_when_its_pod_or_itself_is_ready_no_more_and_not_for_a_moment() {
    let (site, kubeconfig, _app) = begin("status-down").await;
    let _leader = site.member(&kubeconfig, "a", "192.0.2.1").await;
    for (pod, address) in [("b", "192.0.2.2"), ("c", "192.0.2.3")] {
        site.node(pod, &[("InternalIP", address)]).await;
        site.pod(pod, pod).await;
        site.pod_ready(pod, true).await;
    }
    let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    site.bears("web", &all).await;
    let history = site.history("web").await;

    // A hiccup of both, long enough to be seen: what is down isn't added anywhere.
    let began = Timestamp::now();
    site.pod_ready("b", false).await;
    site.node_ready("c", false).await;
    objects::create(&site.client, site.namespace, &objects::ingress("marker", "marker.example", "app")).await;
    site.bears("marker", &["192.0.2.1"]).await;
    site.pod_ready("b", true).await;
    site.node_ready("c", true).await;
    site.bears("marker", &all).await;
    site.bears("web", &all).await;
    // Where all this took longer than the hold, on a slow machine, it was no hiccup. They went after the hold then, and not before.
    let changes = history.changes().await;
    assert_eq!(changes[0], all);
    for version in history.versions.lock().unwrap().iter().filter(|version| addresses(version) != all) {
        let after = began.duration_until(written(version)).unsigned_abs();
        assert!(after + Duration::from_secs(1) > STATUS_REMOVAL_HOLD, "withdrawn after {after:?}: {changes:?}");
    }

    site.pod_terminates("b").await;
    site.bears("web", &["192.0.2.1", "192.0.2.3"]).await;

    site.node_ready("c", false).await;
    site.bears("web", &["192.0.2.1"]).await;
    site.node_ready("c", true).await;
    site.bears("web", &["192.0.2.1", "192.0.2.3"]).await;
    site.pod_ready("c", false).await;
    site.bears("web", &["192.0.2.1"]).await;
    site.pod_ready("c", true).await;
    site.bears("web", &["192.0.2.1", "192.0.2.3"]).await;
    site.node_gone("c").await;
    site.bears("web", &["192.0.2.1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stays_while_one_of_its_pods_is_ready() {
    let (site, kubeconfig, _app) = begin("status-surge").await;
    let _leader = site.member(&kubeconfig, "a", "192.0.2.1").await;
    site.node("b", &[("InternalIP", "192.0.2.2")]).await;
    site.pod("b-old", "b").await;
    site.pod_ready("b-old", true).await;
    site.bears("web", &["192.0.2.1", "192.0.2.2"]).await;
    let history = site.history("web").await;

    // A surge: the new pod first, then the old one goes.
    site.pod("b-new", "b").await;
    site.pod_ready("b-new", true).await;
    site.pod_terminates("b-old").await;
    site.pod_gone("b-old").await;
    // A change that must show.
    site.pod_terminates("b-new").await;
    site.bears("web", &["192.0.2.1"]).await;
    assert_eq!(history.changes().await, [&["192.0.2.1", "192.0.2.2"][..], &["192.0.2.1"]]);
}

/// When the status was written, in whole seconds.
fn written(ingress: &Ingress) -> Timestamp {
    let entries = ingress.metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.as_deref() == Some("status"));
    entries.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max().expect("the API server notes the time of each write")
}
