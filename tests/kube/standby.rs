//! A process that stands by: it serves what another one has kept on disk, once nobody else serves, until somebody does again.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use crate::{
    rig::{App, Cluster, Directory, Forwarder, Load, Nodegate, get, objects, tell},
    state::{holds, keeping},
};

const NAMESPACE: &str = "standby";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_nobody_serves_who_stands_by_serves_what_is_on_disk_until_somebody_comes() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    for (name, host) in [("web", "web.standby.example"), ("doomed", "doomed.standby.example")] {
        objects::create(&client, NAMESPACE, &objects::ingress(name, host, "app")).await;
    }
    let mut forwarder = Forwarder::open(cluster.api_address()).await;
    let kubeconfig = cluster.nodegate_kubeconfig(forwarder.address());
    let directory = Directory::create("state");
    // An address of this test's own: the ports have to be known, as on a node.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 | (low & 0x3f), middle ^ high, 7);
    let (http, admin): (SocketAddr, SocketAddr) = ((ip, 8080).into(), (ip, 9080).into());
    let (name, http_flag, admin_flag) = (format!("standby-{}", std::process::id()), http.to_string(), admin.to_string());
    let handover = ["--handover", name.as_str()];
    let flags = [&handover[..], &["--http", &http_flag, "--admin", &admin_flag]].concat();
    let state = directory.path().to_str().expect("a path in UTF-8");

    let mut standby = Nodegate::stand_by(http, admin, &[&handover[..], &["--state-dir", state]].concat()).await;
    let mut first = keeping(&kubeconfig, directory.path(), &flags).await;
    first.ready().await;
    holds(directory.path(), "doomed.standby.example").await;
    forwarder.cut().await;
    first.terminate();
    first.ended().await;
    let gone = Instant::now();
    standby.serves("web.standby.example", "app").await;
    tell(&format!("who stands by serves {:.1?} after the last process has ended", gone.elapsed()));
    let answer = get(http, "doomed.standby.example", "/").await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "app"));
    standby.ready().await;
    assert!(standby.metric("nodegate_state_served_age_seconds").await.is_ok_and(|age| age < 120), "how old it is");

    // The next process of the cluster: until the API server has answered, the one that stands by serves on; then it goes.
    let load = Load::begin(http, "web.standby.example", "app");
    let next = keeping(&kubeconfig, directory.path(), &flags).await;
    objects::delete::<k8s_openapi::api::networking::v1::Ingress>(&client, NAMESPACE, "doomed").await;
    assert_eq!(next.readyz().await.map(|answer| answer.status), Ok(503));
    forwarder.restore().await;
    next.refuses("doomed.standby.example", 404, "no_route").await;
    standby.ended().await;
    let requests = load.end().await;
    assert!(requests > 0);
    assert!(next.metric("nodegate_state_served_age_seconds").await.is_err(), "it is the cluster's");
    let content = std::fs::read_to_string(directory.path().join("objects")).expect("what is on disk");
    assert!(content.contains("web.standby.example"), "who stands by has left it as it was");
}
