//! gRPC from end to end: the server of its interoperability tests in pods, without TLS and with it, and their client on the internet.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread};

use anyhow::{Context, ensure};
use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::{Value, json};

use super::{NAMESPACE, secured};
use crate::{
    cluster::{Cluster, WORK},
    images::{self, GRPC_SERVER},
    issued::{Issued, issue},
    sample::list,
    tools,
    wait::{PATIENCE, eventually},
};

/// To a backend that speaks HTTP/2 without TLS, as Kubernetes' own name for it in its Service says.
pub const PLAIN: &str = "rpc.example";
/// To one with TLS, which has to prove who it is.
const VERIFIED: &str = "rpcs.example";
pub const HOSTS: [&str; 2] = [PLAIN, VERIFIED];

/// Large messages and streams in both directions, what stands in header fields and trailers, and what isn't there.
const CASES: [&str; 7] = [
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "status_code_and_message",
    "custom_metadata",
    "unimplemented_method",
];
const PORT: u16 = 8000;

/// One call of the client, which can be made again and again.
#[derive(Debug)]
pub struct Call {
    pub command: Command,
    name: String,
}

impl Call {
    /// Makes one of gRPC's cases, with these arguments besides, at a node's door.
    pub fn new(cluster: &Cluster, door: SocketAddr, host: &str, case: &str, more: &[&str]) -> Self {
        let program = images::grpc_client();
        let mut command = cluster.internet.command(&[program.to_str().expect("a path in UTF-8")]);
        command.args(["--server_host", &door.ip().to_string(), "--server_port", &door.port().to_string(), "--server_host_override", host]);
        command.args(["--use_tls", "--use_test_ca", "--ca_file", &authority(), "--test_case", case]).args(more);
        Self { command, name: format!("{case} of {host} at {door}") }
    }

    /// To its end; an error with what the client said if the case doesn't pass.
    pub fn make(&mut self) -> anyhow::Result<()> {
        let output = tools::feed(&mut self.command, "");
        ensure!(output.status.success(), "{}: {}: {}", self.name, output.status, String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// Servers on every node, and what leads to them.
pub async fn set_up(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.load(GRPC_SERVER);
    let (front, back) = (issue(&PKCS_ECDSA_P256_SHA256, &HOSTS), issue(&PKCS_ECDSA_P256_SHA256, &[&format!("rpcs.{NAMESPACE}.svc")]));
    fs::write(authority(), &front.certificate)?;
    let tls = ["--use_tls", "--tls_cert_file", "/back/tls.crt", "--tls_key_file", "/back/tls.key"];
    let replicas = cluster.nodes.len();
    cluster.apply(&list(&ingresses(&front, &back)))?;
    let objects = [
        deployment("rpc", replicas, &[]),
        deployment("rpcs", replicas, &tls),
        service("rpc", "kubernetes.io/h2c"),
        service("rpcs", "https"),
    ];
    cluster.apply(&list(&objects))?;
    for name in ["rpc", "rpcs"] {
        cluster.rolled_out(NAMESPACE, name, PATIENCE).await?;
    }
    Ok(())
}

/// Every case, at every node's door.
pub async fn cases_pass(cluster: &Cluster) -> anyhow::Result<()> {
    let doors = cluster.doors(443);
    for (door, host) in doors.iter().flat_map(|door| HOSTS.map(|host| (*door, host))) {
        let mut first = Call::new(cluster, door, host, "empty_unary", &[]);
        eventually(&format!("{host} is served on {door}"), PATIENCE, async || first.make()).await?;
    }
    // Each in its turn, at the nodes side by side.
    let pass = |door: &SocketAddr| {
        let mut calls = HOSTS.iter().flat_map(|host| CASES.map(|case| Call::new(cluster, *door, host, case, &[])));
        calls.try_for_each(|mut call| call.make())
    };
    thread::scope(|scope| {
        let nodes: Vec<_> = doors.iter().map(|door| scope.spawn(move || pass(door))).collect();
        nodes.into_iter().try_for_each(|node| node.join().expect("a client that didn't panic"))
    })
    .context("gRPC")
}

/// The file with what vouches for the proxy's certificate.
fn authority() -> String {
    Path::new(WORK).join("rpc.crt").to_string_lossy().into_owned()
}

fn ingresses(front: &Issued, back: &Issued) -> [Value; 4] {
    let mut verified = secured("rpcs", VERIFIED, "rpcs", "rpc-front");
    verified["metadata"]["annotations"] = json!({ "nodegate.dev/backend-ca-secret": "rpc-back" });
    [front.secret(NAMESPACE, "rpc-front"), back.secret(NAMESPACE, "rpc-back"), secured("rpc", PLAIN, "rpc", "rpc-front"), verified]
}

fn service(name: &str, protocol: &str) -> Value {
    let spec = json!({ "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": PORT, "appProtocol": protocol }] });
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec })
}

/// With a pod on every node.
fn deployment(name: &str, replicas: usize, arguments: &[&str]) -> Value {
    let labels = json!({ "app": name });
    let port = format!("--port={PORT}");
    let arguments = [&[port.as_str()], arguments].concat();
    let container = json!({
        "name": "server", "image": GRPC_SERVER, "imagePullPolicy": "Never", "args": arguments,
        "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 10 },
        "volumeMounts": [{ "name": "back", "mountPath": "/back", "readOnly": true }],
    });
    let pod = json!({
        "terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [{ "name": "back", "secret": { "secretName": "rpc-back" } }],
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": labels },
        }],
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "replicas": replicas, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } },
    })
}
