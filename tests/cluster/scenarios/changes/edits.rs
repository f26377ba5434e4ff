//! A thousand edits a minute of other Ingresses, half of them mistakes: a host that nobody touches is served as ever, and nothing is left of them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use k8s_openapi::api::{core::v1::Event, networking::v1::Ingress};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::interval;

use super::{
    super::table::Row,
    Extent,
    site::{HOST, NAMESPACE, Site, WEB},
    usage::{Usage, listed},
};
use crate::{
    http, install,
    load::Load,
    sample::ingress,
    wait::{PATIENCE, eventually},
};

/// Between two edits: a thousand in 60 s.
const PACE: Duration = Duration::from_millis(60);
/// How many Ingresses are edited, each in its turn. A mistake lasts 3 s this way, one more than it takes to become an Event.
const INGRESSES: usize = 50;
/// What these Ingresses have in common.
const LABEL: &str = "changes=edited";
/// The host of the last of them.
const LAST: &str = "last.changes.example";
/// Edits take at most so many times as long as they are to: an API server on a busy machine.
const SLOWER: u32 = 2;
/// How much more memory may be resident at the end, in MiB. What was freed stays with the allocator, which has a heap for each thread. A table of so many Ingresses
/// takes half a MiB: if one in ten was kept, it would be more than this.
const MORE_MEMORY: f64 = 6.0;
/// How much more of a processor may be in use at the end, in percent of it: neighbours on the machine's caches are felt, too. A thread that spins takes all of one.
const MORE_PROCESSOR: f64 = 5.0;

pub async fn others_are_edited(site: &Site<'_>, extent: &Extent) -> anyhow::Result<Row> {
    let load = site.load(extent.rate);
    let before = Usage::under(&load, site).await?;
    let tables = tables(site)?;
    let took = edit(site, extent.edits).await?;
    let caught_up = last_is_in_force(site, &load).await?;
    let tables = tables_since(site, &tables)?;
    every_mistake_is_told(site).await?;
    all_are_gone(site).await?;
    let after = Usage::under(&load, site).await?;
    let tally = load.stop();
    tally.all_succeeded().context("to a host that nobody edited")?;
    nothing_is_left(&before, &after)?;
    Ok(Row {
        event: "1,000 edits a minute of other hosts' Ingresses, half of them mistakes",
        seen: format!(
            "nothing; each mistake becomes an Event; once the Ingresses are deleted, memory is within {MORE_MEMORY} MiB of what it was, and the processor as idle as before"
        ),
        measured: format!(
            "{} edits in {:.0} s, {} tables at a node, the last edit in force on every node after {:.1} s; {} of {} requests failed, the slowest took {:.1} s; memory of the \
             three processes {} MiB before and {} MiB after, processor {} % before and {} % after",
            extent.edits,
            took.as_secs_f32(),
            tables.iter().min().copied().unwrap_or_default(),
            caught_up.as_secs_f32(),
            tally.failed.len(),
            tally.sent,
            tally.slowest.as_secs_f32(),
            listed(&before.memory),
            listed(&after.memory),
            listed(&before.processor),
            listed(&after.processor),
        ),
    })
}

/// What an edit makes of an Ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// It leads to pods, this time under this path.
    Right {
        round: usize,
    },
    Wrong(Mistake),
    Deleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    Annotation,
    Service,
    Port,
    /// The host and path that the load is for, and a Service that would fail it.
    Taken,
}

const MISTAKES: [(Mistake, &str); 4] = [
    (Mistake::Annotation, "BadAnnotation"),
    (Mistake::Service, "UnknownService"),
    (Mistake::Port, "UnknownPort"),
    (Mistake::Taken, "Conflict"),
];

impl Edit {
    /// Half of them are mistakes: each Ingress is created, made wrong, deleted, created wrong, mended, and so on.
    fn number(number: usize) -> (usize, Self) {
        let (round, which) = (number / INGRESSES, number % INGRESSES);
        let mistake = |shift: usize| Self::Wrong(MISTAKES[(which + shift) % MISTAKES.len()].0);
        let edit = match round % 4 {
            0 => Self::Right { round },
            1 => mistake(0),
            2 => Self::Deleted,
            _ => mistake(1),
        };
        (which, edit)
    }

    async fn make(self, ingresses: &Api<Ingress>, which: usize) -> anyhow::Result<()> {
        let name = format!("edited-{which}");
        let mut object = ingress(NAMESPACE, &name, &format!("{name}.changes.example"), WEB.name);
        match self {
            Self::Deleted => {
                return ingresses.delete(&name, &DeleteParams::default()).await.map(drop).with_context(|| format!("deleting {name}"));
            }
            Self::Right { round } => path(&mut object)["path"] = json!(format!("/round-{round}")),
            Self::Wrong(Mistake::Annotation) => object["metadata"]["annotations"] = json!({ "nodegate.dev/dial": "pods" }),
            Self::Wrong(Mistake::Service) => path(&mut object)["backend"]["service"]["name"] = json!("nowhere"),
            Self::Wrong(Mistake::Port) => path(&mut object)["backend"]["service"]["port"]["number"] = json!(81),
            Self::Wrong(Mistake::Taken) => object = ingress(NAMESPACE, &name, HOST, "nowhere"),
        }
        apply(ingresses, &name, object).await
    }
}

fn path(ingress: &mut Value) -> &mut Value {
    &mut ingress["spec"]["rules"][0]["http"]["paths"][0]
}

async fn apply(ingresses: &Api<Ingress>, name: &str, mut object: Value) -> anyhow::Result<()> {
    let (key, value) = LABEL.split_once('=').context("a label")?;
    object["metadata"]["labels"] = json!({ key: value });
    let applied = ingresses.patch(name, &PatchParams::apply("edits"), &Patch::Apply(object)).await;
    applied.map(drop).with_context(|| format!("applying {name}"))
}

fn ingresses(site: &Site<'_>) -> Api<Ingress> {
    Api::namespaced(site.cluster.client(), NAMESPACE)
}

/// Makes them, one after the other. How long it took.
async fn edit(site: &Site<'_>, edits: usize) -> anyhow::Result<Duration> {
    let (ingresses, mut pace, began) = (ingresses(site), interval(PACE), Instant::now());
    for number in 0..edits {
        pace.tick().await;
        let (which, edit) = Edit::number(number);
        edit.make(&ingresses, which).await.with_context(|| format!("edit {number}, {edit:?}"))?;
    }
    let (took, wanted) = (began.elapsed(), PACE * u32::try_from(edits)?);
    ensure!(took < wanted * SLOWER, "{edits} edits took {took:?}, and not {wanted:?}");
    Ok(took)
}

/// One more edit; how long after it each node serves what it says.
async fn last_is_in_force(site: &Site<'_>, load: &Load) -> anyhow::Result<Duration> {
    let began = load.now();
    apply(&ingresses(site), "last", ingress(NAMESPACE, "last", LAST, WEB.name)).await?;
    site.cluster.serves(LAST).await?;
    Ok(load.now().saturating_sub(began))
}

/// Waits until there is an Event of each kind.
async fn every_mistake_is_told(site: &Site<'_>) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(site.cluster.client(), NAMESPACE);
    let about = ListParams::default().fields("involvedObject.kind=Ingress");
    eventually("there is an Event of each mistake", PATIENCE, async || {
        let told: BTreeSet<String> = events.list(&about).await?.into_iter().filter_map(|event| event.reason).collect();
        let missing: Vec<_> = MISTAKES.iter().filter(|(_, reason)| !told.contains(*reason)).collect();
        ensure!(missing.is_empty(), "there is {told:?}, and none of {missing:?}");
        Ok(())
    })
    .await
}

/// Deletes them, and waits until no node knows them any more, and nothing is to be written about them.
async fn all_are_gone(site: &Site<'_>) -> anyhow::Result<()> {
    ingresses(site).delete_collection(&DeleteParams::default(), &ListParams::default().labels(LABEL)).await?;
    for (node, target) in site.cluster.nodes.iter().zip(&site.targets) {
        eventually(&format!("{} forgets them", node.name), PATIENCE, async || {
            let answer = site.cluster.internet.within_async(async || http::get(*target, LAST, "/").await)?;
            ensure!(answer.status == 404, "{LAST} is answered with {answer}");
            let pending = install::metric(node, "nodegate_events_pending")?;
            ensure!(pending == 0, "{pending} Events to write");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn nothing_is_left(before: &Usage, after: &Usage) -> anyhow::Result<()> {
    let more = |after: &[f64], before: &[f64]| after.iter().zip(before).map(|(after, before)| after - before).fold(f64::MIN, f64::max);
    let memory = more(&after.memory, &before.memory);
    ensure!(memory < MORE_MEMORY, "a process has {memory:.1} MiB more than before: {before:?}, {after:?}");
    let processor = more(&after.processor, &before.processor);
    ensure!(processor < MORE_PROCESSOR, "a process takes {processor:.1} % more of a processor than before: {before:?}, {after:?}");
    Ok(())
}

/// How many tables each node has compiled.
fn tables(site: &Site<'_>) -> anyhow::Result<Vec<u64>> {
    site.cluster.nodes.iter().map(|node| install::metric(node, "nodegate_rebuilds_total")).collect()
}

fn tables_since(site: &Site<'_>, before: &[u64]) -> anyhow::Result<Vec<u64>> {
    Ok(tables(site)?.into_iter().zip(before).map(|(now, before)| now - before).collect())
}
