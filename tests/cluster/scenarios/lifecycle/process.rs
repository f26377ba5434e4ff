//! Nodegate's processes on the nodes, as the kernel sees them.

use std::{fmt, fs, time::Duration};

use anyhow::{Context, ensure};

use crate::{cluster::Cluster, sandbox};

/// The bit of the capability to listen on ports below the unprivileged ones.
pub const NET_BIND_SERVICE: u64 = 1 << 10;
/// Whom the image and the manifests make it.
pub const USER: &str = "65532";

/// One that serves.
#[derive(Debug)]
pub struct Process {
    pub pid: String,
    pub node: String,
    /// Of /proc/PID/status.
    status: String,
}

impl Process {
    /// Those of all nodes, whatever state they are in.
    pub fn all(cluster: &Cluster) -> anyhow::Result<Vec<Self>> {
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
        let nodes: Vec<_> = cluster.nodes.iter().map(|node| (&node.name, network(&node.namespace.holder().to_string()))).collect();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_string_lossy().into_owned();
            // What isn't there any more is none of them.
            let Ok(line) = fs::read_to_string(format!("/proc/{pid}/cmdline")) else { continue };
            if !line.starts_with("/nodegate\0serve") {
                continue;
            }
            let (Ok(status), Ok(network)) = (fs::read_to_string(format!("/proc/{pid}/status")), network(&pid)) else { continue };
            let node = nodes.iter().find(|(_, of)| of.as_ref().is_ok_and(|of| *of == network));
            let node = node.with_context(|| format!("process {pid} is in the network of no node"))?.0.clone();
            found.push(Self { pid, node, status });
        }
        Ok(found)
    }

    /// The one of each node; an error where there is none, or another one.
    pub fn on_every_node(cluster: &Cluster) -> anyhow::Result<Vec<Self>> {
        let mut found = Self::all(cluster)?;
        found.sort_by(|one, other| one.node.cmp(&other.node));
        let of: Vec<&String> = found.iter().map(|process| &process.node).collect();
        let wanted: Vec<&String> = cluster.nodes.iter().map(|node| &node.name).collect();
        ensure!(of == wanted, "expected a process on each of {wanted:?}, found them on {of:?}");
        Ok(found)
    }

    /// How long ago it started, to a few hundredths of a second. The container's runtime starts it, and becomes Nodegate.
    pub fn age(&self) -> anyhow::Result<Duration> {
        let started = sandbox::start_time(self.pid.parse()?).with_context(|| format!("process {} is gone", self.pid))?;
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split_whitespace().next().context("the time since boot")?.parse()?;
        #[expect(clippy::cast_precision_loss, reason = "a hundred or so")]
        let second = rustix::param::clock_ticks_per_second() as f64;
        Ok(Duration::try_from_secs_f64(uptime - started.parse::<f64>()? / second)?)
    }

    /// Resident memory, in MiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).with_context(|| format!("{self} has ended"))?;
        let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).context("no VmRSS")?;
        Ok(size.parse::<f64>()? / 1024.0)
    }

    /// Whether it is an ordinary user's, has these capabilities, and can't get any other.
    pub fn is_restricted_to(&self, capabilities: u64) -> anyhow::Result<()> {
        let ids = format!("{USER}\t{USER}\t{USER}\t{USER}");
        let set = format!("{capabilities:016x}");
        for (name, expected) in [
            ("Uid", ids.as_str()),
            ("Gid", &ids),
            ("CapEff", &set),
            ("CapPrm", &set),
            ("CapBnd", &set),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            let seen = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            ensure!(seen == Some(expected), "{}: {name} of process {} is {seen:?}, not {expected:?}", self.node, self.pid);
        }
        Ok(())
    }
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: process {} serves", self.node, self.pid)
    }
}
