//! What Nodegate says and serves between its start and its first complete view of the cluster, and right after.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nodegate::config::limits::FIRST_TABLE_WAIT;
use tokio::{task::JoinSet, time::interval};

use crate::rig::{App, Client, Cluster, Forwarder, Nodegate, WATCHED, eventually, get, objects, tell};

const NAMESPACE: &str = "startup";

/// Ingresses in the large cluster, one host each.
const HOSTS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_full_list_it_is_not_ready_and_with_one_it_is() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    objects::create(&client, NAMESPACE, &objects::ingress("web", "app.example", "app")).await;
    let (last, others) = WATCHED.split_last().expect("some");
    cluster.grant(others).await;
    cluster.stop_api();

    let began = Instant::now();
    let mut nodegate = Nodegate::start(&cluster.nodegate_kubeconfig(cluster.api_address())).await;
    assert_stays_unready(&nodegate, "without an API server").await;
    // Waits in the listening queue at first.
    let answer = get(nodegate.http, "app.example", "/").await.expect("an answer");
    assert_eq!((answer.status, answer.reason.as_deref()), (503, Some("not_ready")), "{answer}");
    assert!(answer.retry_after.as_deref().is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{:?}", answer.retry_after);
    assert!(began.elapsed() >= FIRST_TABLE_WAIT, "after {:?}, when there could have been a table still", began.elapsed());
    assert_says_once_that_there_is_no_api_server(&nodegate);

    cluster.start_api().await;
    eventually("every list but one is answered", async || {
        let has = |resource: &str, code| cluster.answers_to_nodegate(resource).contains(&code);
        let lists = others.iter().filter(|(_, resource)| has(resource, 200)).count();
        if lists == others.len() && has(last.1, 403) { Ok(()) } else { Err(format!("{lists} lists")) }
    })
    .await;
    assert_stays_unready(&nodegate, "with all lists but one").await;

    cluster.grant(&WATCHED).await;
    nodegate.ready().await;
    let answer = get(nodegate.http, "app.example", "/").await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "app"), "the first request after ready");
}

/// Each watch for itself, in our words alone; the client library would tell every one of the dozens of tries.
fn assert_says_once_that_there_is_no_api_server(nodegate: &Nodegate) {
    let log = nodegate.log();
    let by = |library: &str| log.iter().filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with(library))).count();
    assert_eq!((by("kube_client"), by("kube_runtime")), (0, 0), "{log:#?}");
    let mut said: Vec<&str> = log.iter().filter_map(|line| line["list"].as_str()).collect();
    said.sort_unstable();
    assert_eq!(said, ["EndpointSlice", "Ingress", "IngressClass", "Service"], "{log:#?}");
}

/// Looks for a second.
async fn assert_stays_unready(nodegate: &Nodegate, when: &str) {
    let mut ticks = interval(Duration::from_millis(50));
    for _ in 0..20 {
        ticks.tick().await;
        let answer = nodegate.readyz().await.expect("an answer");
        assert_eq!(answer.status, 503, "{when}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_2000_ingresses_no_existing_host_is_unknown_at_any_moment_after_ready() {
    every_host_is_known(Cluster::start().await, "in a stream").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_without_streaming_lists_is_read_in_pages_without_a_gap() {
    let cluster = every_host_is_known(Cluster::start_with(&["--feature-gates=WatchList=false"]).await, "in pages").await;
    assert!(cluster.answers_to_nodegate("ingresses").contains(&422), "the premise: streams were refused");
}

/// From the first moment that Nodegate calls itself ready, through a loss of all watches and their history.
async fn every_host_is_known(mut cluster: Cluster, how: &str) -> Cluster {
    let client = cluster.client().await;
    objects::create_namespace(&client, NAMESPACE).await;
    let _app = App::deploy(&client, NAMESPACE, "app").await;
    create_ingresses(&client).await;

    let mut forwarder = Forwarder::open(cluster.api_address()).await;
    let began = Instant::now();
    let mut nodegate = Nodegate::start(&cluster.nodegate_kubeconfig(forwarder.address())).await;
    let sweep = Sweep::begin(nodegate.http);
    nodegate.ready().await;
    sweep.ready.store(true, Ordering::SeqCst);
    tell(&format!("{HOSTS} Ingresses listed {how}: ready {:.1?} after the start", began.elapsed()));
    sweep.another_round().await;

    // Every store is listed anew while requests go on: the watches end, and the history that they could continue from is gone.
    forwarder.cut().await;
    objects::create(&client, NAMESPACE, &objects::ingress("marker", "marker.example", "app")).await;
    cluster.stop_api();
    cluster.compact().await;
    cluster.start_api().await;
    forwarder.restore().await;
    nodegate.serves("marker.example", "app").await;
    sweep.another_round().await;
    sweep.end().await;
    cluster
}

/// The name of an Ingress, and the first label of its host.
fn name(number: usize) -> String {
    format!("app-{number:04}")
}

async fn create_ingresses(client: &kube::Client) {
    const AT_A_TIME: usize = 16;
    let mut tasks = JoinSet::new();
    for first in 0..AT_A_TIME {
        let client = client.clone();
        tasks.spawn(async move {
            for number in (first..HOSTS).step_by(AT_A_TIME) {
                let name = name(number);
                objects::create(&client, NAMESPACE, &objects::ingress(&name, &format!("{name}.example"), "app")).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("created");
    }
}

/// Asks for every host in turn, round after round. What is asked after `ready` was set must be answered by the backend.
struct Sweep {
    ready: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<String>>,
    stop: Arc<AtomicBool>,
}

impl Sweep {
    fn begin(address: SocketAddr) -> Self {
        let (ready, stop, rounds) = (Arc::default(), Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(sweep(address, Arc::clone(&ready), Arc::clone(&stop), Arc::clone(&rounds)));
        Self { ready, rounds, tasks, stop }
    }

    /// Waits until every host was asked for once more.
    async fn another_round(&self) {
        // The round that runs now may be half over.
        let wanted = self.rounds.load(Ordering::SeqCst) + 2;
        eventually("a whole round", async || if self.rounds.load(Ordering::SeqCst) >= wanted { Ok(()) } else { Err("not yet") }).await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let failures = self.tasks.join_next().await.expect("the task").expect("its failures");
        assert!(failures.is_empty(), "{} wrong answers after ready, the first: {}", failures.len(), failures[0]);
    }
}

async fn sweep(address: SocketAddr, ready: Arc<AtomicBool>, stop: Arc<AtomicBool>, rounds: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut client = Client::new(address);
    loop {
        for number in 0..HOSTS {
            if stop.load(Ordering::SeqCst) {
                return failures;
            }
            let host = format!("{}.example", name(number));
            let must_know = ready.load(Ordering::SeqCst);
            let answer = client.get(&host, "/").await;
            let right = answer.as_ref().is_ok_and(|answer| answer.status == 200 && answer.body == "app");
            if must_know && !right {
                failures.push(format!("{host}: {answer:?}"));
            }
        }
        rounds.fetch_add(1, Ordering::SeqCst);
    }
}
