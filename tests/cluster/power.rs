//! What a node loses with its power: every process, and whatever is kept in memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cluster::WORK,
    namespace::Namespace,
    sandbox,
    wait::{PATIENCE, until},
};

/// Mounts of pods and containers, pods' networks with their wires, and what is in /run, but for the directory that all nodes see. The bridge of the pods goes, too.
const FORGET: &str = r#"
awk '$2 ~ "^/(run/(containerd|netns)|var/lib/(kubelet|containerd))/" { print $2 }' /proc/self/mounts | tac | xargs --no-run-if-empty umount --lazy
find /run -mindepth 1 -maxdepth 1 ! -path "$0" -exec rm -r --one-file-system {} +
! ip link show cni0 >/dev/null 2>&1 || ip link delete cni0
"#;

/// Kills every process of a node's but the one that holds its namespaces, until none is left: shims and containers, too, whose networks are their own.
pub fn end_processes(node: &str, namespace: &Namespace) {
    let of_the_node = OfTheNode::new(node, namespace);
    until(&format!("{node} has no process"), PATIENCE, || {
        let left = of_the_node.all();
        for pid in &left {
            // One that has ended meanwhile is none of them any more.
            _ = i32::try_from(*pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Takes away what nobody finds after a reboot.
pub fn forget_memory(namespace: &Namespace) {
    namespace.run(&["bash", "-euo", "pipefail", "-c", FORGET, WORK]);
}

/// Tells a node's processes from others, by their namespaces and control groups.
struct OfTheNode {
    holder: u32,
    namespaces: [(&'static str, PathBuf); 2],
    group: String,
}

impl OfTheNode {
    fn new(node: &str, namespace: &Namespace) -> Self {
        let holder = namespace.holder();
        let own = |kind| (kind, link(holder, kind).expect("the namespaces of a process that runs"));
        Self { holder, namespaces: ["net", "mnt"].map(own), group: format!("/{}/{node}/", sandbox::name()) }
    }

    fn all(&self) -> Vec<u32> {
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != self.holder && self.is_one(*pid)).collect()
    }

    fn is_one(&self, pid: u32) -> bool {
        let inside = self.namespaces.iter().any(|(kind, own)| link(pid, kind).as_ref() == Some(own));
        inside
            || fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cgroup")).is_ok_and(|groups| groups.contains(&self.group))
    }
}

/// None of a process that has ended.
fn link(pid: u32, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}
