//! The container images of the tests, as archives that `images/build.sh` makes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Holds a pod's namespaces.
pub const PAUSE: &str = "docker.io/local/pause:1";
/// Cluster DNS.
pub const COREDNS: &str = "docker.io/local/coredns:1";
/// The sample backend, `examples/echo`: an account of the request as JSON. `args` are `--listen 0.0.0.0:PORT --name NAME`.
pub const ECHO: &str = "docker.io/local/echo:1";

/// The archives of all images, built where that isn't done yet.
pub fn archives() -> Vec<PathBuf> {
    let directory = PathBuf::from(build("tests/cluster/images/build.sh", &[]));
    let entries = fs::read_dir(&directory).expect("the directory that build.sh names").flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "tar")).collect()
}

/// The directory with the parts of Kubernetes, built where that isn't done yet.
pub fn kubernetes() -> PathBuf {
    let parts = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];
    PathBuf::from(build("tests/kube/build.sh", &parts))
}

/// Runs a script that builds things and prints where they are. Its progress goes to our standard error.
fn build(script: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output =
        Command::new(path).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("bash, for our own scripts");
    assert!(output.status.success(), "{script} failed ({}); it says above why", output.status);
    String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end().to_owned()
}
