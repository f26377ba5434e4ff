//! The reference deployment: three nodes behind Cloudflare in its Flexible mode, the shipped overlay and example, and every backend in its place.

mod spread;

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    http::{Answer, Client},
    images::REDIS,
    install::{self, CLIENTS_ARE_CLOUDFLARE, K3S_CLOUDFLARE},
    network,
    sample::{Sample, list},
    wait::{PATIENCE, eventually},
};

const API: &str = "api.myhoneydue.com";
const ADMIN: &str = "admin.myhoneydue.com";
const APEX: &str = "myhoneydue.com";
/// Somebody's browser, as Cloudflare tells us.
const VISITOR: &str = "192.0.2.77";
/// The last number of the address from which Cloudflare connects, and of one that isn't Cloudflare's.
const CLOUDFLARE: u8 = 10;
const STRANGER: u8 = 19;

/// Connections that were closed at accept.
const REFUSED: &str = "nodegate_connections_refused_total";
/// Enough for a node to refuse a connection.
const SOON: Duration = Duration::from_secs(5);
/// How many pods the API is scaled to.
const PODS: usize = 10;

const NAMESPACE: &str = "honeydue";
const API_PODS: Sample<'_> = Sample { namespace: NAMESPACE, name: "api", port: 8000, answers_as: "$(POD)" };
const ADMIN_POD: Sample<'_> = Sample { namespace: NAMESPACE, name: "admin", port: 3000, answers_as: "admin" };

const REDIS_POD: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: redis, namespace: honeydue }
spec:
  selector: { matchLabels: { app: redis } }
  template:
    metadata: { labels: { app: redis } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: redis
        image: REDIS
        imagePullPolicy: Never
        readinessProbe: { tcpSocket: { port: 6379 }, periodSeconds: 1 }
";

pub async fn reference(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.nodes.iter().for_each(|node| node.load(REDIS));
    cluster.apply(&example()?)?;
    cluster.apply(&list(&[API_PODS.deployment(3), ADMIN_POD.deployment(1)]))?;
    cluster.apply(&REDIS_POD.replace("REDIS", REDIS))?;
    let installed = install::nodegate(cluster, K3S_CLOUDFLARE, &[CLIENTS_ARE_CLOUDFLARE]).await?;
    for deployment in ["api", "admin", "redis"] {
        cluster.rolled_out(NAMESPACE, deployment, PATIENCE).await?;
    }
    for door in cluster.doors(80) {
        every_backend_is_in_its_place(cluster, door).await?;
        backends_are_told_of_the_visitor(cluster, door)?;
    }
    nobody_but_cloudflare_is_served(cluster)?;
    redis_is_for_the_inside(cluster).await?;
    spread::fresh_connections_reach_all(cluster, 3).await?;
    cluster.kubectl(&["scale", "deployment/api", "--namespace=honeydue", &format!("--replicas={PODS}")])?;
    cluster.rolled_out(NAMESPACE, "api", PATIENCE).await?;
    spread::fresh_connections_reach_all(cluster, PODS).await?;
    spread::load_is_even(cluster, PODS).await?;
    install::uninstall(cluster, installed)?;
    cluster.delete_namespace(NAMESPACE)?;
    Ok(())
}

/// The shipped example, without what it says is for reading it without a cluster: invented addresses and endpoints.
fn example() -> anyhow::Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/k3s-cloudflare/honeydue.yaml");
    let text = fs::read_to_string(path).context(path)?;
    let (slices, mut kept): (Vec<Value>, Vec<Value>) =
        serde_saphyr::from_multiple(&text).context(path)?.into_iter().partition(|object: &Value| object["kind"] == "EndpointSlice");
    let mut addresses = 0;
    for service in kept.iter_mut().filter(|object| object["kind"] == "Service") {
        addresses += usize::from(service["spec"].as_object_mut().is_some_and(|spec| spec.remove("clusterIP").is_some()));
    }
    ensure!(
        (slices.len(), addresses) == (1, 3),
        "{path}: left out {} EndpointSlices and {addresses} clusterIPs, not 1 and 3",
        slices.len()
    );
    Ok(list(&kept))
}

/// What Cloudflare sends in its Flexible mode, for a visitor who came with this scheme: all that its documentation lists for a plan without extras, which
/// has no True-Client-IP.
fn cloudflare(scheme: &str) -> Vec<(&'static str, String)> {
    [
        ("accept-encoding", "gzip, br"),
        ("cdn-loop", "cloudflare; loops=1"),
        ("cf-connecting-ip", VISITOR),
        ("cf-ipcountry", "CH"),
        ("cf-ray", "8f2a4b6c8d0e1f23-ZRH"),
        ("cf-visitor", &format!(r#"{{"scheme":"{scheme}"}}"#)),
        ("connection", "Keep-Alive"),
        ("x-forwarded-for", VISITOR),
        ("x-forwarded-proto", scheme),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// One request on a connection of its own.
async fn ask(door: SocketAddr, host: &str, fields: &[(&str, String)]) -> anyhow::Result<Answer> {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Client::new(door).get(host, "/", &fields).await
}

async fn every_backend_is_in_its_place(cluster: &Cluster, door: SocketAddr) -> anyhow::Result<()> {
    eventually(&format!("the example is served on {door}"), PATIENCE, async || {
        cluster.internet.within_async(async || {
            for (host, backend) in [(API, "api-"), (APEX, "api-"), (ADMIN, "admin")] {
                let answer = ask(door, host, &cloudflare("https")).await?;
                let name = answer.backend().unwrap_or_default();
                ensure!(answer.status == 200 && name.starts_with(backend), "{host}: expected a backend {backend}, got {answer}");
            }
            Ok(())
        })
    })
    .await
}

/// Every header field that a backend gets, to the letter. The scheme is the visitor's, also where nothing but CF-Visitor tells it.
fn backends_are_told_of_the_visitor(cluster: &Cluster, door: SocketAddr) -> anyhow::Result<()> {
    for (scheme, port) in [("https", "443"), ("http", "80")] {
        for left_out in ["", "x-forwarded-proto", "cf-visitor"] {
            let mut fields = cloudflare(scheme);
            fields.retain(|(name, _)| *name != left_out);
            let answer = cluster.internet.within_async(async || ask(door, API, &fields).await)?;
            let account: Value = serde_json::from_str(&answer.body).with_context(|| answer.to_string())?;
            let mut told: Vec<(String, String)> = serde_json::from_value(account["headers"].clone())?;
            told.retain(|(name, value)| name != "x-request-id" || value.is_empty());
            told.sort();

            let mut expected: BTreeMap<&str, String> = fields.into_iter().collect();
            expected.remove("connection");
            expected.insert("host", API.to_owned());
            expected.insert("x-forwarded-for", format!("{VISITOR}, {}", network::client_address(CLOUDFLARE)));
            expected.insert("x-forwarded-host", API.to_owned());
            expected.insert("x-forwarded-port", port.to_owned());
            expected.insert("x-forwarded-proto", scheme.to_owned());
            expected.insert("x-real-ip", VISITOR.to_owned());
            let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            ensure!(told == expected, "{door}, {scheme}, without {left_out:?}: expected {expected:#?}, and the backend got {told:#?}");
        }
    }
    Ok(())
}

/// Whoever isn't Cloudflare gets a connection that is closed, whatever it says.
fn nobody_but_cloudflare_is_served(cluster: &Cluster) -> anyhow::Result<()> {
    for node in &cluster.nodes {
        let before = install::metric(node, REFUSED)?;
        let stranger = network::client_address(STRANGER);
        let mut client = Client::bound_to(stranger, (node.address, 80).into());
        let fields = [("cf-connecting-ip", VISITOR), ("x-forwarded-for", VISITOR)];
        if let Ok(answer) = cluster.internet.within_async(async || client.get(API, "/", &fields).await) {
            anyhow::bail!("{}: {stranger} isn't Cloudflare, and got {answer}", node.name);
        }
        let refused = install::metric(node, REFUSED)? - before;
        ensure!(refused == 1, "{}: {refused} connections were refused, not the one of {stranger}", node.name);
    }
    Ok(())
}

/// It answers whoever is in the cluster, by its name. No name and no port leads there from outside.
async fn redis_is_for_the_inside(cluster: &Cluster) -> anyhow::Result<()> {
    let ping = ["exec", "--namespace=honeydue", "deployment/redis", "--", "redis-cli", "-h", "redis", "ping"];
    eventually("redis answers in the cluster", PATIENCE, async || {
        let said = cluster.kubectl(&ping)?;
        ensure!(said.trim() == "PONG", "it says {said:?}");
        Ok(())
    })
    .await?;
    let services =
        cluster.kubectl(&["get", "service", "redis", "--namespace=honeydue", "--output=jsonpath={.spec.type} {.spec.externalIPs}"])?;
    ensure!(services.trim() == "ClusterIP", "the Service redis is open to the outside: {services}");
    for door in cluster.doors(80) {
        let outside = cluster.internet.within(|| TcpStream::connect_timeout(&(door.ip(), 6379).into(), SOON));
        let refused = outside.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        ensure!(refused, "{}:6379 doesn't refuse a connection from outside: {outside:?}", door.ip());
        for host in ["redis", "redis.honeydue", "redis.honeydue.svc.cluster.local"] {
            let answer = cluster.internet.within_async(async || ask(door, host, &cloudflare("https")).await)?;
            ensure!(answer.status == 404, "{door}: {host} leads somewhere: {answer}");
        }
    }
    Ok(())
}
