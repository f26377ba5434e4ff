//! What Nodegate's processes take of their nodes.

use std::{fs, time::Duration};

use anyhow::Context;

use super::site::Site;
use crate::{load::Load, scenarios::lifecycle::process::Process};

/// For so many requests of the load, processor time is counted.
const MEASURED: u32 = 400;

/// What each node's process takes while nothing changes, in the nodes' order.
#[derive(Debug)]
pub struct Usage {
    /// Resident memory, in MiB.
    pub memory: Vec<f64>,
    /// Of one processor, in percent.
    pub processor: Vec<f64>,
}

impl Usage {
    /// Over some hundred requests of a load.
    pub async fn under(load: &Load, site: &Site<'_>) -> anyhow::Result<Self> {
        let processes = Process::on_every_node(site.cluster)?;
        let spent = || processes.iter().map(|process| processor_time(&process.pid)).collect::<anyhow::Result<Vec<_>>>();
        let (began, before) = (load.now(), spent()?);
        load.ended(MEASURED).await?;
        let (took, after) = (load.now().saturating_sub(began), spent()?);
        let share = |(after, before): (Duration, Duration)| 100.0 * after.saturating_sub(before).as_secs_f64() / took.as_secs_f64();
        let memory = processes.iter().map(Process::resident).collect::<anyhow::Result<_>>()?;
        Ok(Self { memory, processor: after.into_iter().zip(before).map(share).collect() })
    }
}

/// In user mode and in the kernel, to the nanosecond: what all of its threads have had. None of them ends.
fn processor_time(pid: &str) -> anyhow::Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("a process of Nodegate's has ended")? {
        let line = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += line.split_whitespace().next().context("no time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Such as `1.0, 2.5`.
pub fn listed(figures: &[f64]) -> String {
    figures.iter().map(|figure| format!("{figure:.1}")).collect::<Vec<_>>().join(", ")
}
