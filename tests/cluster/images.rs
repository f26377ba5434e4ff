//! What is built and fetched before the sandbox cuts the machine's network off: programs, and container images as archives.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Holds a pod's namespaces.
pub const PAUSE: &str = "docker.io/local/pause:1";
/// Cluster DNS.
pub const COREDNS: &str = "docker.io/local/coredns:1";
/// The sample backend, `examples/echo`: an account of the request as JSON. `args` are `--listen 0.0.0.0:PORT --name NAME`.
pub const ECHO: &str = "docker.io/local/echo:1";

/// Nodegate itself. Loaded at the start like those above; the ones below by [`crate::cluster::Cluster::load`], where they are wanted.
pub const NODEGATE: &str = "docker.io/local/nodegate:1";
/// The same executable, without its file capability: where the node's sysctl lets it have port 80.
pub const NODEGATE_UNCAPPED: &str = "docker.io/local/nodegate-uncapped:1";
pub const REDIS: &str = "docker.io/local/redis:1";
pub const TRAEFIK: &str = "docker.io/local/traefik:1";
/// The server of gRPC's interoperability tests. `args` are `--port PORT`.
pub const GRPC_SERVER: &str = "docker.io/local/grpc-server:1";

/// What every node has from the start.
pub const AT_START: [&str; 4] = [PAUSE, COREDNS, ECHO, NODEGATE];

/// These carry what [`build`] has made into the sandbox.
const KUBERNETES: &str = "NODEGATE_E2E_KUBERNETES";
const IMAGES: &str = "NODEGATE_E2E_IMAGES";
const PEERS: &str = "NODEGATE_E2E_PEERS";

/// Installs and builds whatever isn't there yet. Returns the environment that the sandbox needs to find it, or what went wrong.
pub fn build() -> Result<[(&'static str, String); 3], String> {
    run("tests/cluster/prepare.sh", &[])?;
    let parts = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];
    Ok([
        (KUBERNETES, run("tests/kube/build.sh", &parts)?),
        (IMAGES, run("tests/cluster/images/build.sh", &[])?),
        (PEERS, run("tests/kube/build.sh", &["grpc-client"])?),
    ])
}

/// The directory with the parts of Kubernetes.
pub fn kubernetes() -> PathBuf {
    std::env::var_os(KUBERNETES).expect("only asked for inside").into()
}

/// The client of gRPC's interoperability tests.
pub fn grpc_client() -> PathBuf {
    PathBuf::from(std::env::var_os(PEERS).expect("only asked for inside")).join("grpc-client")
}

/// The archive of an image of the name `docker.io/local/NAME:1`.
pub fn archive(image: &str) -> PathBuf {
    let name = image.strip_prefix("docker.io/local/").and_then(|name| name.strip_suffix(":1")).expect("one of our images");
    PathBuf::from(std::env::var_os(IMAGES).expect("only asked for inside")).join(format!("{name}.tar"))
}

/// Runs one of our scripts; returns the path that it prints. Its progress goes to our standard error.
fn run(script: &str, arguments: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{script}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{script} failed ({}); it says above why", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
