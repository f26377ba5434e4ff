//! A process that stands by: it serves what another one has kept on disk, once nobody else serves, until somebody does again.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Instant,
};

use k8s_openapi::api::networking::v1::Ingress;

use crate::{
    rig::{App, Cluster, Directory, Forwarder, Load, Nodegate, eventually, objects, tell},
    state::{end, holds, keeping, logs, says},
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
    let flags = ["--handover", name.as_str(), "--http", &http_flag, "--admin", &admin_flag];
    let state = directory.path().to_str().expect("a path in UTF-8");

    let standby = Nodegate::stand_by(http, admin, &["--state-dir", state]).await;
    logs(&standby, "there is nothing to serve yet", |line| says(line, "standing by with nothing to serve")).await;
    let mut first = keeping(&kubeconfig, directory.path(), &flags).await;
    first.ready().await;
    holds(directory.path(), "doomed.standby.example").await;
    forwarder.cut().await;
    end(first).await;
    serves_alone(&standby).await;

    // The next process of the cluster, without an API server: it knows what the one that stands by does, and takes over once it does.
    let load = Load::begin(http, "web.standby.example", "app");
    let mut next = keeping(&kubeconfig, directory.path(), &flags).await;
    // Until then it may be the other one that answers at the address of both.
    logs(&next, "it has taken over", |line| says(line, "taken over")).await;
    next.ready().await;
    assert!(next.metric("nodegate_state_served_age_seconds").await.is_ok(), "it serves from disk, too");
    objects::delete::<Ingress>(&client, NAMESPACE, "doomed").await;
    forwarder.restore().await;
    next.refuses("doomed.standby.example", 404, "no_route").await;
    eventually("it stands by again", async || {
        let times = standby.log().iter().filter(|line| says(line, "standing by: serving once")).count();
        if times == 2 { Ok(()) } else { Err(format!("it has begun {times} times")) }
    })
    .await;
    assert!(load.end().await > 0);

    // And does so in the same process, which nobody has to start again.
    holds_not(directory.path(), "doomed.standby.example").await;
    forwarder.cut().await;
    end(next).await;
    serves_alone(&standby).await;
    let content = fs::read_to_string(directory.path().join("objects")).expect("what is on disk");
    assert!(content.contains("web.standby.example"), "who stands by has left it as it was");
}

/// Waits until it serves what is on disk, since nobody else does.
async fn serves_alone(standby: &Nodegate) {
    let gone = Instant::now();
    standby.serves("web.standby.example", "app").await;
    tell(&format!("who stands by serves {:.1?} after the last process has ended", gone.elapsed()));
    assert_eq!(standby.readyz().await.map(|answer| answer.status), Ok(200));
    assert!(standby.metric("nodegate_state_served_age_seconds").await.is_ok_and(|age| age < 120), "how old it is");
}

/// Waits until what is on disk hasn't this in it any more.
async fn holds_not(directory: &Path, text: &str) {
    eventually(&format!("{text} isn't on disk"), async || {
        let content = fs::read_to_string(directory.join("objects")).map_err(|error| error.to_string())?;
        if content.contains(text) { Err(content) } else { Ok(()) }
    })
    .await;
}
