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
    load::{Failure, Load, Tally},
    tools,
    wait::{PATIENCE, eventually},
};

/// Requests before the first pod's end, and again behind the last.
const AROUND: u32 = 60;

/// How much later a node has replaced its connections, at the latest: it has to hear of the pods, and does so as requests come.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// When a pod's process ended, as the load counts: not before the one, not after the other.
pub type Death = (Duration, Duration);

pub async fn pods_stop_abruptly(site: &Site<'_>, extent: &Extent) -> anyhow::Result<Row> {
    let load = site.load(extent.rate);
    load.ended(AROUND).await?;
    let (mut deaths, mut lost, mut again) = (Vec::new(), 0, 0);
    for _ in 0..extent.deaths {
        // Some seconds after pods have come, all connections to them are replaced once.
        let whole = load.now();
        while load.now() < whole + SPREAD_SETTLE + SETTLES_WITHIN {
            load.ended(AROUND).await?;
        }
        // The same pod in both ways: a container that dies a second time is started again later.
        let pod = site.pods().await?.pop().context("no pod")?.name_any();
        let fates = killed(site, &load, &pod, &mut deaths).await?;
        (lost, again) = (lost + fates.lost, again + fates.sent_again);
        deaths.push(deleted_by_force(site, &load, &pod).await?);
    }
    load.ended(AROUND).await?;
    let tally = load.stop();
    let surprised = surprised(&tally, &deaths)?;
    // One that is sent again may meet the same pod, which closes its listening socket last: not a third time.
    ensure!(again > 0, "of the requests that a pod had when it was killed, {lost} were lost, and none sent to another");
    Ok(Row {
        event: "a pod killed with SIGKILL, and one deleted by force",
        seen: "nothing, but that some of the GETs which that pod had end with 502, and the others are sent to another pod".to_owned(),
        measured: format!(
            "{} killed and {} deleted; {surprised} of {} short requests failed, and of {} that took 4 s and that pods had when one was killed, {again} were sent to another, and {lost} failed",
            extent.deaths,
            extent.deaths,
            tally.sent,
            extent.deaths * HELD
        ),
    })
}

/// Kills a pod's process while pods are busy with requests, and waits until it is started again.
async fn killed(site: &Site<'_>, load: &Load, pod: &str, deaths: &mut Vec<Death>) -> anyhow::Result<Fates> {
    let fates = Held::begin(site).through(site, async || {
        let (process, began) = (process(pod)?, load.now());
        tools::run(Command::new("kill").arg("-KILL").arg(process.file_name().context("a process")?));
        is_gone(&process).await?;
        deaths.push((began, load.now()));
        Ok(())
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
pub async fn deleted_by_force(site: &Site<'_>, load: &Load, pod: &str) -> anyhow::Result<Death> {
    let (process, namespace, began) = (process(pod)?, format!("--namespace={NAMESPACE}"), load.now());
    site.cluster.kubectl(&["delete", "pod", pod, &namespace, "--grace-period=0", "--force"])?;
    is_gone(&process).await?;
    let ended = load.now();
    eventually(&format!("there is another pod instead of {pod}"), PATIENCE, async || {
        let pods: Vec<String> = site.pods().await?.iter().map(ResourceExt::name_any).collect();
        ensure!(!pods.iter().any(|other| other == pod), "{pods:?}");
        Ok(())
    })
    .await?;
    site.is_whole().await?;
    Ok((began, ended))
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

/// How many requests failed, all of which were on their way when a pod's process ended.
fn surprised(tally: &Tally, deaths: &[Death]) -> anyhow::Result<usize> {
    let explained = |failure: &Failure| {
        let under_way = |(began, ended): &Death| failure.sent <= *ended && failure.sent + failure.took >= *began;
        failure.what.starts_with("502") && deaths.iter().any(under_way)
    };
    let other = tally.failed.iter().find(|failure| !explained(failure));
    ensure!(other.is_none(), "not for the end of a pod, which were at {deaths:?}: {}", other.map(ToString::to_string).unwrap_or_default());
    Ok(tally.failed.len())
}
