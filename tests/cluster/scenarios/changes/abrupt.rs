//! Pods that stop without a word, killed or deleted by force: requests that were on their way to one go to another, where that is allowed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use kube::ResourceExt;
use nodegate::config::limits::SPREAD_SETTLE;

use super::{
    super::table::Row,
    Extent,
    held::{Fates, HELD, Held},
    site::{NAMESPACE, Site},
};
use crate::{
    tools,
    wait::{PATIENCE, eventually},
};

/// Requests before the first pod's end, and again behind the last.
const AROUND: u32 = 60;

/// How much later a node has replaced its connections, at the latest: it has to hear of the pods, and does so as requests come.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

pub async fn pods_stop_abruptly(site: &Site<'_>, extent: &Extent) -> anyhow::Result<Row> {
    let load = site.load(extent.rate);
    load.ended(AROUND).await?;
    let (mut lost, mut again) = (0, 0);
    for _ in 0..extent.deaths {
        // Some seconds after pods have come, all connections to them are replaced once.
        let whole = load.now();
        while load.now() < whole + SPREAD_SETTLE + SETTLES_WITHIN {
            load.ended(AROUND).await?;
        }
        // The same pod in both ways: a container that dies a second time is started again later.
        let pod = site.pods().await?.pop().context("no pod")?.name_any();
        let fates = killed(site, &pod).await?;
        (lost, again) = (lost + fates.lost, again + fates.sent_again);
        deleted_by_force(site, &pod).await?;
    }
    load.ended(AROUND).await?;
    let tally = load.stop();
    tally.all_succeeded()?;
    ensure!(lost == 0 && again > 0, "of the requests that a pod had when it was killed, {lost} were lost, and {again} sent to another");
    Ok(Row {
        event: "a pod killed with SIGKILL, and one deleted by force",
        seen: "nothing, but that GETs which that pod had take as long again: they are sent to another pod".to_owned(),
        measured: format!(
            "{} killed and {} deleted; 0 of {} short requests failed, and of {} that took 4 s and that pods had when one was killed, {again} were sent to another, and {lost} failed",
            extent.deaths,
            extent.deaths,
            tally.sent,
            extent.deaths * HELD
        ),
    })
}

/// Kills a pod's process while pods are busy with requests, and waits until it is started again.
async fn killed(site: &Site<'_>, pod: &str) -> anyhow::Result<Fates> {
    let fates = Held::begin(site).through(site, async || {
        let process = process(pod)?;
        tools::run(Command::new("kill").arg("-KILL").arg(process.file_name().context("a process")?));
        is_gone(&process).await
    });
    let fates = fates.await?;
    eventually(&format!("{pod} runs again"), PATIENCE, async || {
        let pods = site.pods().await?;
        let status = pods.into_iter().find(|other| other.name_any() == pod).and_then(|pod| pod.status).unwrap_or_default();
        let container = status.container_statuses.into_iter().flatten().next().context("no container")?;
        ensure!(container.restart_count == 1 && container.ready, "{container:?}");
        Ok(())
    })
    .await?;
    site.is_whole().await?;
    Ok(fates)
}

/// Deletes a pod without any grace, and waits until its process has ended, which is when its kubelet hears of it, and there is another one.
pub async fn deleted_by_force(site: &Site<'_>, pod: &str) -> anyhow::Result<()> {
    let (process, namespace) = (process(pod)?, format!("--namespace={NAMESPACE}"));
    site.cluster.kubectl(&["delete", "pod", pod, &namespace, "--grace-period=0", "--force"])?;
    is_gone(&process).await?;
    eventually(&format!("there is another pod instead of {pod}"), PATIENCE, async || {
        let pods: Vec<String> = site.pods().await?.iter().map(ResourceExt::name_any).collect();
        ensure!(!pods.iter().any(|other| other == pod), "{pods:?}");
        Ok(())
    })
    .await?;
    site.is_whole().await
}

/// The directory of the process of a pod, which has the pod's name as an argument.
fn process(pod: &str) -> anyhow::Result<PathBuf> {
    let of_the_pod = |directory: &PathBuf| {
        // What isn't there any more is none of them.
        let line = fs::read_to_string(directory.join("cmdline")).unwrap_or_default();
        line.starts_with("/echo\0") && line.split('\0').any(|argument| argument == pod)
    };
    let processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    processes.into_iter().find(of_the_pod).with_context(|| format!("pod {pod} has no process"))
}

async fn is_gone(process: &Path) -> anyhow::Result<()> {
    eventually("a pod's process is gone", PATIENCE, async || if process.exists() { Err("it is there") } else { Ok(()) }).await
}
