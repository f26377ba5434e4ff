//! What new processes of Nodegate's have of their nodes' memory: both times, whatever has happened in between, they are of one age.

use anyhow::ensure;

use super::super::{
    changes::{site::Site, usage::listed},
    lifecycle::process::Process,
};
use crate::install;

/// How much more a new process may have, in percent of what a new one had at first.
pub const MORE: f64 = 5.0;
/// And beyond that, in MiB: how many pages two processes touch that have done the same differs by some dozens.
const NOISE: f64 = 1.0;
/// Requests that a process has answered when it is measured, and how many a second, over all nodes.
const MEASURED_AFTER: u32 = 600;
const RATE: u32 = 100;

/// Of each node, in MiB.
#[derive(Debug)]
pub struct Memory(Vec<f64>);

impl Memory {
    /// After an upgrade and some requests.
    pub async fn of_new_processes(site: &Site<'_>) -> anyhow::Result<Self> {
        // Within `minReadySeconds` a pod isn't available yet, and the controller replaces such ones on all nodes at once.
        install::rollout(site.cluster, &["status", "--timeout=400s"])?;
        install::rollout(site.cluster, &["restart"])?;
        install::rollout(site.cluster, &["status", "--timeout=400s"])?;
        install::rolled_out(site.cluster).await?;
        let load = site.load(RATE);
        load.ended(MEASURED_AFTER).await?;
        let memory = Process::on_every_node(site.cluster)?.iter().map(Process::resident).collect::<anyhow::Result<_>>()?;
        load.stop().all_succeeded()?;
        Ok(Self(memory))
    }

    /// Says that no process has more than that one.
    pub fn is_no_more_than(&self, before: &Self) -> anyhow::Result<()> {
        for (before, after) in before.0.iter().zip(&self.0) {
            let most = before * (1.0 + MORE / 100.0) + NOISE;
            ensure!(*after <= most, "a new process has {after:.1} MiB, where one had {before:.1} at first");
        }
        Ok(())
    }

    pub fn listed(&self) -> String {
        listed(&self.0)
    }
}
