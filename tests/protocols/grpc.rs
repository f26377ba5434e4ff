//! gRPC's interoperability tests: its client, our TLS, and its server behind us, without TLS and with it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::{
    built::built,
    support::{Issued, Proxy, issue, manifest, secret},
};

/// All that need no account of Google's (grpc/doc/interop-test-descriptions.md).
const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];
const HOST: &str = "rpc.example";

/// gRPC's own server.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(["--port", "0"]).args(arguments).env("GRPC_GO_LOG_SEVERITY_LEVEL", "info");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.split_once("listening on [::]:").and_then(|(_, port)| port.trim().parse().ok()));
        // It goes on talking, and somebody has to listen.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port.expect("a port"))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An Ingress for [`HOST`] with a certificate, and annotations that say what the backend is.
fn proxy(server: &Server, front: &Issued, back: &Issued, annotations: &str) -> Proxy {
    let tls = format!("ingressClassName: nodegate\n  tls: [{{ secretName: front, hosts: [{HOST}] }}]");
    let routes = manifest(&[(HOST, "/", server.address)])
        .replace("ingressClassName: nodegate", &tls)
        .replace("name: ingress-0, namespace: tests", &format!("name: ingress-0, namespace: tests, annotations: {{ {annotations} }}"));
    Proxy::with(&(routes + &secret("tests", "front", front) + &secret("tests", "back", back)), |settings| {
        settings.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    })
}

#[test]
fn every_interoperability_case_passes() {
    let programs = built(&["grpc-client", "grpc-server"]);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (front, back) = (issue(&PKCS_ECDSA_P256_SHA256, &[HOST]), issue(&PKCS_ECDSA_P256_SHA256, &["service-0.tests.svc"]));
    let (authority, certificate, key) =
        (file("ca.crt", &front.certificate), file("tls.crt", &back.certificate), file("tls.key", &back.key));
    let server = programs.join("grpc-server");
    let plain = Server::start(&server, &[]);
    let secure = Server::start(&server, &["--use_tls", "--tls_cert_file", &certificate, "--tls_key_file", &key]);
    for (label, server, annotations) in [
        ("h2c", &plain, "nodegate.dev/backend-protocol: grpc"),
        ("TLS", &secure, "nodegate.dev/backend-protocol: grpcs, nodegate.dev/backend-ca-secret: back"),
        ("TLS, as the handshake has it", &secure, "nodegate.dev/backend-protocol: https, nodegate.dev/backend-ca-secret: back"),
    ] {
        let proxy = proxy(server, &front, &back, annotations);
        let port = proxy.addresses[1].port().to_string();
        for case in CASES {
            let mut client = Command::new(programs.join("grpc-client"));
            client.args(["--server_host", "127.0.0.1", "--server_port", &port, "--server_host_override", HOST]);
            client.args(["--use_tls", "--use_test_ca", "--ca_file", &authority, "--test_case", case]);
            let output = client.output().unwrap();
            assert!(output.status.success(), "{label}: {case}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
