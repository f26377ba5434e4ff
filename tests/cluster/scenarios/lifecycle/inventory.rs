//! Everything that a cluster and its nodes hold and an installation might leave there.

use std::collections::BTreeSet;

use anyhow::ensure;

use super::{port_start, process::Process};
use crate::{
    cluster::Cluster,
    node::Node,
    wait::{PATIENCE, eventually},
};

/// Kinds that don't tell what is installed: Events expire by themselves, under two names; the other one asks the control plane how it is.
const LEFT_OUT: &[&str] = &["events", "events.events.k8s.io", "componentstatuses"];

/// One line for each thing.
#[derive(Debug)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Asks the API server for all objects of all the kinds that it knows, and every node.
    pub fn take(cluster: &Cluster) -> anyhow::Result<Self> {
        let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"])?;
        let kinds: Vec<&str> = kinds.split_whitespace().filter(|kind| !LEFT_OUT.contains(kind)).collect();
        let columns = "--output=jsonpath={range .items[*]}{.apiVersion} {.kind} {.metadata.namespace}/{.metadata.name}{'\\n'}{end}";
        let objects = cluster.kubectl(&["get", &kinds.join(","), "--all-namespaces", columns])?;
        let status = "--output=jsonpath={range .items[*]}status of {.metadata.namespace}/{.metadata.name}: {.status}{'\\n'}{end}";
        let statuses = cluster.kubectl(&["get", "ingresses", "--all-namespaces", status])?;
        let mut lines: BTreeSet<String> = objects.lines().chain(statuses.lines()).map(str::to_owned).collect();
        ensure!(lines.iter().any(|line| line == "v1 Namespace /kube-system"), "a list of all objects lacks a Namespace: {objects}");
        for node in &cluster.nodes {
            lines.extend(of(node)?.into_iter().map(|line| format!("{}: {line}", node.name)));
        }
        lines.extend(Process::all(cluster)?.iter().map(Process::to_string));
        Ok(Self(lines))
    }

    /// Waits until nothing has come or gone since it was taken.
    pub async fn is_restored(&self, cluster: &Cluster) -> anyhow::Result<()> {
        eventually("the cluster is as it was before", PATIENCE, async || {
            let (left, gone) = self.compare(&Self::take(cluster)?);
            ensure!(left.is_empty() && gone.is_empty(), "left behind: {left:#?}; gone: {gone:#?}");
            Ok(())
        })
        .await
    }

    /// Waits until nothing has come or gone but `left`, in the place of one line.
    pub async fn is_restored_but(&self, cluster: &Cluster, left: &str, place: &str) -> anyhow::Result<()> {
        eventually("the cluster is as it was before but for one line", PATIENCE, async || {
            let (seen, gone) = self.compare(&Self::take(cluster)?);
            ensure!(seen == [left] && matches!(&gone[..], [line] if line.starts_with(place)), "left behind: {seen:#?}; gone: {gone:#?}");
            Ok(())
        })
        .await
    }

    /// What is there now and wasn't, and what was and isn't.
    fn compare(&self, now: &Self) -> (Vec<String>, Vec<String>) {
        let lines = |these: &BTreeSet<String>, those| these.difference(those).cloned().collect();
        (lines(&now.0, &self.0), lines(&self.0, &now.0))
    }
}

/// Who listens on a node, where a process of ours could be met, the node's addresses, and what we set there.
fn of(node: &Node) -> anyhow::Result<Vec<String>> {
    let mut lines = vec![format!("unprivileged ports from {}", port_start(node)?)];
    for script in [
        "ss --listening --tcp --numeric --no-header | awk '{ print \"listens on\", $4 }'",
        "ss --listening --unix --numeric --no-header | grep nodegate || true",
        "ip -brief address",
    ] {
        lines.extend(node.run(&["bash", "-o", "pipefail", "-c", script]).lines().map(str::to_owned));
    }
    Ok(lines)
}
