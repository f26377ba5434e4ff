//! h2spec, strictly.

use std::{net::SocketAddr, process::Command};

use nodegate::proxy::Settings;

use crate::{
    built::built,
    support::{Backend, Proxy},
};

/// Its cases in strict mode. With a backend whose answers have no body, six of them couldn't be: they open a window of one byte, and wait for it.
const CASES: usize = 146;

#[test]
fn h2spec_finds_nothing() {
    let h2spec = built(&["h2spec"]).join("h2spec");
    let backend = Backend::start().serve("a body");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let proxy = Proxy::to_with(backend, |settings: &mut Settings| {
        settings.https = vec![loopback];
        settings.h2c = vec![loopback];
    });
    for (label, address, flags) in
        [("over TLS", proxy.addresses[1], &["--tls", "--insecure"][..]), ("without TLS", proxy.addresses[2], &[])]
    {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let output = Command::new(&h2spec).args(["--strict", "--host", &host, "--port", &port]).args(flags).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let expected = format!("{CASES} tests, {CASES} passed, 0 skipped, 0 failed");
        assert!(output.status.success() && text.trim_end().ends_with(&expected), "{label}:\n{text}");
    }
}
