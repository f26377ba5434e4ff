//! What is kept of a scenario that failed, outside the sandbox: target/cluster-logs/SCENARIO.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cluster::{Cluster, LOGS},
    tools,
};

/// Collects logs and states of everything. Returns the directory.
pub fn collect(cluster: &Cluster, scenario: &str) -> PathBuf {
    let directory = collect_logs(scenario);
    let keep = |name: &str, content: String| fs::write(directory.join(name), content).expect("a file for a failure's traces");
    for (name, arguments) in [
        ("objects.txt", &["get", "all,ingresses,endpointslices,nodes,leases", "--all-namespaces", "--output", "wide"][..]),
        ("pods.txt", &["describe", "pods", "--all-namespaces"]),
        ("nodes.txt", &["describe", "nodes"]),
        ("ingresses.txt", &["describe", "ingresses", "--all-namespaces"]),
        ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
    ] {
        let arguments = [&["--request-timeout=10s"], arguments].concat();
        keep(name, cluster.kubectl(&arguments).unwrap_or_else(|error| format!("{error:#}")));
    }
    for node in &cluster.nodes {
        for (name, script) in [
            ("network", "ip addr; ip route; ip neigh; bridge fdb show dev flannel.1; ss -tulpn"),
            ("iptables", "iptables-save --counters"),
            ("containers", "ctr --namespace k8s.io containers list; ctr --namespace k8s.io tasks list; ctr --namespace k8s.io images list"),
        ] {
            keep(&format!("{}/{name}.txt", node.name), node.run(&["sh", "-c", &format!("exec 2>&1; {script}; true")]));
        }
        copy(&node.pod_logs(), &directory.join(&node.name).join("pods"));
    }
    directory
}

/// The daemons' logs alone, where there is no cluster yet.
pub fn collect_logs(scenario: &str) -> PathBuf {
    let directory = logs().join(scenario);
    _ = fs::remove_dir_all(&directory);
    copy(Path::new(LOGS), &directory);
    directory
}

/// Leaves the number of scenarios that passed to killed.sh, which ends `make e2e` with a line about everything.
pub fn note_passed(passed: u32) {
    fs::create_dir_all(logs()).expect("a directory for logs");
    fs::write(logs().join("passed"), passed.to_string()).expect("a file for what passed");
}

fn logs() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's own directory").join("cluster-logs")
}

/// Copies what is below a directory, pipes and the like left out.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory for a failure's traces");
    if from.exists() {
        tools::run(Command::new("cp").args(["--recursive", "--no-target-directory"]).args([from, to]));
    }
}
