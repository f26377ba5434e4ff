//! A node's disk is full where Nodegate keeps its copy of the cluster's objects.

use std::time::Duration;

use anyhow::{Context, ensure};
use nodegate::config::limits::STATE_RETRY;

use super::{
    super::table::Row,
    site::{self, HOST, Site},
};
use crate::{
    install,
    load::Load,
    node::Node,
    wait::{PATIENCE, eventually},
};

/// Where it is kept.
const DIRECTORY: &str = "/var/lib/nodegate";
const FILLER: &str = "/var/lib/nodegate/filler";
/// Requests to that node, after it has noticed.
const REQUESTS: u32 = 60;
const RATE: u32 = 30;
/// How long after there is room again the copy is there: it is tried for, and written.
const KEPT_WITHIN: Duration = STATE_RETRY.saturating_add(Duration::from_secs(15));

/// A file system of its own in that place of one node, without any room.
#[derive(Debug)]
pub struct FullDisk<'a>(&'a Node);

impl<'a> FullDisk<'a> {
    /// Before Nodegate comes.
    pub fn mount(node: &'a Node) -> Self {
        let fill = format!("head --bytes=16M /dev/zero >{FILLER} && test $(stat --file-system --format=%f {DIRECTORY}) = 0");
        node.run(&["sh", "-ec", &format!("mkdir -p {DIRECTORY}; mount -t tmpfs -o size=16M,mode=755 full {DIRECTORY}; {fill}")]);
        Self(node)
    }

    /// After Nodegate went.
    pub fn unmount(self) {
        self.0.run(&["umount", DIRECTORY]);
    }

    /// Says that the node's Nodegate tells of it, and serves. Then there is room again.
    pub async fn is_told(&self, site: &Site<'_>) -> anyhow::Result<Full> {
        let Self(node) = self;
        eventually("the log says that the disk is full", PATIENCE, async || {
            let log = site::log(node)?;
            let said = log.lines().any(|line| line.contains("state_not_kept") && line.contains("No space left on device"));
            ensure!(said, "{log}");
            Ok(())
        })
        .await?;
        let load = Load::start(&site.cluster.internet, &[(node.address, 80).into()], HOST, RATE);
        load.ended(REQUESTS).await?;
        let tally = load.stop();
        let errors = install::metric(node, "nodegate_state_errors_total")?;
        tally.all_succeeded().context("with a full disk")?;
        ensure!(errors > 0, "{}: nothing is counted", node.name);
        ensure!(install::metric(node, SAVED).is_err(), "{}: a copy was written to a full disk", node.name);
        node.run(&["rm", FILLER]);
        Ok(Full { requests: tally.sent })
    }

    /// Waits until the copy is kept, without anybody's help.
    pub async fn is_over(&self, full: Full) -> anyhow::Result<Row> {
        let Self(node) = self;
        eventually("the copy is kept", KEPT_WITHIN, async || install::metric(node, SAVED)).await?;
        node.run(&["test", "-s", &format!("{DIRECTORY}/objects")]);
        Ok(Row {
            event: "a node's disk full where the copy of the cluster's objects is kept",
            seen: format!("nothing; the log says so, and the copy is kept at most {} s after there is room", KEPT_WITHIN.as_secs()),
            measured: format!("0 of {} requests to that node failed", full.requests),
        })
    }
}

/// When the copy was written; not there before that.
const SAVED: &str = "nodegate_state_saved_timestamp_seconds";

/// What was seen while it was full.
#[derive(Debug)]
pub struct Full {
    requests: u32,
}
