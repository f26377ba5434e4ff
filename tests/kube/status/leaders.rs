//! Who writes: leaders that are killed, cut off, or drain, and what an Ingress bears meanwhile.

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpStream;

use super::*;
use crate::rig::{Clock, Forwarder};

const ALL: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

/// Three nodes with a Nodegate each, named `a`, `b` and `c`, once the status has all of them.
async fn three(site: &Site, kubeconfig: &std::path::Path) -> Vec<(&'static str, Nodegate)> {
    let mut members = Vec::new();
    for (name, address) in ["a", "b", "c"].into_iter().zip(ALL) {
        members.push((name, site.member(kubeconfig, name, address).await));
    }
    site.bears("web", &ALL).await;
    members
}

/// Takes the member of that name out.
fn take(members: &mut Vec<(&'static str, Nodegate)>, name: &str) -> Nodegate {
    let at = members.iter().position(|(member, _)| *member == name).expect("a member leads");
    members.remove(at).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_leaders_killed_in_a_row_leave_every_status_as_it_is() {
    let (site, kubeconfig, _app) = begin("status-killed").await;
    let mut members = three(&site, &kubeconfig).await;
    let history = site.history("web").await;
    let mut leader = site.leader_after("").await;
    for _ in 0..2 {
        // Without a goodbye.
        drop(take(&mut members, &leader));
        leader = site.leader_after(&leader).await;
    }
    // The last one does its work.
    objects::create(&site.client, site.namespace, &objects::ingress("late", "late.example", "app")).await;
    site.bears("late", &ALL).await;
    assert_eq!(history.changes().await, [ALL], "every version of it");
    assert_eq!(members.len(), 1);
    assert_eq!(leader, members[0].0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_the_api_server_stops_leading_before_another_begins() {
    let cluster = Cluster::shared();
    let (site, kubeconfig, _app) = begin("status-cut").await;
    let mut forwarder = Forwarder::open(cluster.api_address()).await;
    let cut = site.member(&cluster.nodegate_kubeconfig(forwarder.address()), "a", ALL[0]).await;
    leads(&cut).await;
    let other = site.member(&kubeconfig, "b", ALL[1]).await;
    site.bears("web", &ALL[..2]).await;
    let history = site.history("web").await;

    forwarder.cut().await;
    assert_eq!(site.leader_after("a").await, "b");
    assert_eq!(cut.metric("nodegate_leader").await, Ok(0), "it has stopped by the time that another holds the Lease");
    leads(&other).await;
    forwarder.restore().await;
    // It is back, and follows.
    objects::create(&site.client, site.namespace, &objects::ingress("late", "late.example", "app")).await;
    cut.serves("late.example", "app").await;
    site.bears("late", &ALL[..2]).await;
    assert_eq!((cut.metric("nodegate_leader").await, site.holder().await.as_deref()), (Ok(0), Some("b")));
    assert_eq!(history.changes().await, [&ALL[..2]]);
}

/// Its term is longer than the Lease's duration in each of its new times, so that another would have begun if it believed them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_jumps_by_a_day_goes_on_to_lead() {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    let (site, kubeconfig, _app) = begin("status-clock").await;
    let clock = Clock::new();
    let leader = site.member_by(&kubeconfig, "a", ALL[0], Some(&clock)).await;
    leads(&leader).await;
    let _other = site.member(&kubeconfig, "b", ALL[1]).await;
    site.bears("web", &ALL[..2]).await;
    let history = site.history("web").await;
    let lease = async || site.lease().await.expect("a Lease");
    let before = lease().await;
    for ahead in [DAY, -DAY, SignedDuration::ZERO] {
        clock.set(ahead.as_secs());
        // Of a renewal by the clock's new time, and of one so much later.
        let later = Timestamp::now() + ahead + SignedDuration::from_secs(5);
        eventually("the Lease is renewed by the new time", async || {
            let renewed = lease().await.renew_time.expect("a time").0;
            if renewed >= later && renewed < later + DAY / 2 { Ok(()) } else { Err(format!("at {renewed}, and not {later}")) }
        })
        .await;
    }
    let after = lease().await;
    assert_eq!((after.holder_identity.as_deref(), after.lease_transitions), (Some("a"), before.lease_transitions));
    assert_eq!(history.changes().await, [&ALL[..2]]);
}

/// Ends a member as Kubernetes does, and checks that its address is gone by the time that it doesn't accept any more.
async fn drains(site: &Site, pod: &str, address: &str, mut nodegate: Nodegate) {
    site.pod_terminates(pod).await;
    nodegate.terminate();
    eventually(&format!("{pod} is not ready"), async || match nodegate.readyz().await {
        Ok(answer) if answer.status == 200 => Err("ready"),
        _ => Ok(()),
    })
    .await;
    eventually(&format!("{pod} doesn't accept"), async || match TcpStream::connect(nodegate.http).await {
        Ok(_) => Err("accepted"),
        Err(_) => Ok(()),
    })
    .await;
    let borne = site.borne("web").await;
    assert!(!borne.iter().any(|borne| borne == address), "{pod} refuses connections, and {borne:?} sends clients there");
    nodegate.ended().await;
    let log = nodegate.log();
    let late = log.iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains("still bear")));
    assert!(late.is_none(), "{late:?}");
    site.pod_gone(pod).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_is_withdrawn_before_it_stops_accepting_the_leader_and_the_last_too() {
    let (site, kubeconfig, _app) = begin("status-drain").await;
    let mut members = three(&site, &kubeconfig).await;
    let history = site.history("web").await;
    let leader = site.leader_after("").await;
    let follower = ["a", "b", "c"].into_iter().find(|name| *name != leader).unwrap();
    for name in [follower, leader.as_str()] {
        let number = ["a", "b", "c"].iter().position(|member| *member == name).unwrap();
        drains(&site, name, ALL[number], take(&mut members, name)).await;
    }
    // It has released the Lease: the next one leads, though nobody waits for it here.
    let (name, last) = members.pop().unwrap();
    leads(&last).await;
    let number = ["a", "b", "c"].iter().position(|member| *member == name).unwrap();
    assert_eq!(site.borne("web").await, [ALL[number]]);
    drains(&site, name, ALL[number], last).await;
    assert_eq!(history.changes().await.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 1, 0]);
    assert_eq!(site.holder().await, None, "released");
    // All of it was done with the rights that are granted.
    for resource in ["leases", "pods", "nodes", "ingresses"] {
        let answers = Cluster::shared().answers_to_nodegate(resource);
        assert!(!answers.is_empty() && !answers.contains(&403), "{resource}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_nobody_while_another_pod_is_ready_on_its_node() {
    let (site, kubeconfig, _app) = begin("status-handover").await;
    let mut old = site.member(&kubeconfig, "a", ALL[0]).await;
    site.bears("web", &ALL[..1]).await;
    let history = site.history("web").await;
    site.pod("a-new", "a").await;
    let new = site.nodegate(&kubeconfig, "a-new").await;
    site.pod_ready("a-new", true).await;
    site.pod_terminates("a").await;
    old.terminate();
    old.ended().await;
    site.pod_gone("a").await;
    leads(&new).await;
    objects::create(&site.client, site.namespace, &objects::ingress("late", "late.example", "app")).await;
    site.bears("late", &ALL[..1]).await;
    assert_eq!(history.changes().await, [&ALL[..1]]);
    let log = old.log();
    assert!(!log.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("still bear"))), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_sockets_were_taken_over_ends_without_withdrawing_its_node() {
    let (site, kubeconfig, _app) = begin("status-taken").await;
    let place = format!("status-taken-{}", std::process::id());
    let site = site.with(&["--handover", &place, "--after-handover", "wait"]);
    let mut old = site.member(&kubeconfig, "a", ALL[0]).await;
    leads(&old).await;
    site.node("b", &[("InternalIP", ALL[1])]).await;
    site.pod("b", "b").await;
    site.pod_ready("b", true).await;
    site.bears("web", &ALL[..2]).await;
    let history = site.history("web").await;

    // The kubelet hasn't seen the new pod Ready yet; the process serves.
    site.pod("a-new", "a").await;
    let new = site.nodegate(&kubeconfig, "a-new").await;
    eventually("handed over", async || {
        let log = old.log();
        let said = log.iter().any(|line| line["message"].as_str().is_some_and(|text| text.starts_with("handed over")));
        if said { Ok(()) } else { Err("not yet") }
    })
    .await;
    old.terminate();
    old.ended().await;
    leads(&new).await;
    objects::create(&site.client, site.namespace, &objects::ingress("late", "late.example", "app")).await;
    site.bears("late", &ALL[..2]).await;
    assert_eq!(history.changes().await, [&ALL[..2]]);
    let log = old.log();
    assert!(!log.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("still bear"))), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_restarts_changes_no_status_and_is_caught_up_with() {
    let mut cluster = Cluster::start().await;
    let (site, kubeconfig, _app) = begin_on(&cluster, "status-restart").await;
    let _members = three(&site, &kubeconfig).await;
    let version = |ingress: &Ingress| ingress.metadata.resource_version.clone();
    let before = version(&site.ingresses().get("web").await.unwrap());
    for _ in 0..2 {
        cluster.stop_api();
        cluster.start_api().await;
    }
    let site = Site { client: cluster.client().await, ..site };
    assert_eq!(version(&site.ingresses().get("web").await.unwrap()), before, "written meanwhile");
    site.pod_terminates("b").await;
    site.bears("web", &[ALL[0], ALL[2]]).await;
}
