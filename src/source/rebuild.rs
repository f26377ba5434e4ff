//! The control loop: dirty mark -> debounce -> compile -> publish what differs -> report. The only writer of the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    compile::{Diagnostic, Incremental, Options, Severity, Standing, Update},
    config::limits::{REBUILD_CEILING, REBUILD_DEBOUNCE},
    route::Snapshot,
    source::{
        Identity, ObjectName, Report, Served, SourceError, identity,
        object::{Key, Kind},
        report::CONFIG_TO_LIVE_BUCKETS,
        shared::{Inputs, Shared, Work},
    },
    table::Publisher,
};

/// How long to wait after an event for more of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Quiet time that ends a burst.
    pub quiet: Duration,
    /// Longest wait since the burst's first event.
    pub ceiling: Duration,
}

impl Pace {
    /// For a source that passes raw events on.
    pub(super) const DEBOUNCED: Self = Self { quiet: REBUILD_DEBOUNCE, ceiling: REBUILD_CEILING };
    /// For a source that gathers bursts itself.
    pub(super) const AT_ONCE: Self = Self { quiet: Duration::ZERO, ceiling: Duration::ZERO };
}

/// Rebuilds for ever.
///
/// # Errors
/// When compiling panicked, which it must not: the table in force stays, and the caller decides about the process.
pub(super) async fn run(
    shared: &Shared,
    pace: Pace,
    options: Options,
    mut publisher: Publisher,
    report: &watch::Sender<Report>,
) -> Result<std::convert::Infallible, SourceError> {
    let mut incremental = Incremental::new(options);
    loop {
        tokio::select! {
            () = shared.dirty() => {}
            () = publisher.reclaim() => continue,
        }
        settle(shared, pace).await;
        let Inputs { delta, diagnostics, held, coverage, since, restored } = match shared.take() {
            None => continue,
            Some(Work::Rebuild(inputs)) => inputs,
            Some(Work::Refresh(ingresses, _)) if ingresses.is_empty() => continue,
            Some(Work::Refresh(ingresses, coverage)) => {
                incremental.refresh(ingresses);
                report.send_modify(|report| {
                    report.ingresses = served(&incremental);
                    report.coverage = coverage;
                });
                continue;
            }
        };
        let known = Arc::clone(&report.borrow().identities);
        // What was made the last time is what is in force.
        let current = publisher.current();
        let before = Arc::clone(&current);
        // With ten thousand Ingresses compiling all takes a tenth of a second, in which this thread has watches to read and probes to answer.
        let compiled = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let Update { snapshot, diagnostics: found, compiled } = incremental.compile(delta, &before.snapshot, Timestamp::now());
            let compile_seconds = begun.elapsed().as_secs_f64();
            let findings: BTreeSet<Diagnostic> = diagnostics.into_iter().chain(found).collect();
            let identities = identity::identify(&incremental, &held, &known, &findings);
            let ingresses = served(&incremental);
            let held = not_in_force(&held, &ingresses);
            (Built { snapshot, findings, identities, ingresses, held, compiled, compile_seconds }, incremental)
        });
        let built;
        (built, incremental) = compiled.await.map_err(|_| SourceError::Stopped("compiling"))?;
        let Built { snapshot, findings, identities, ingresses, held, compiled, compile_seconds } = built;

        let differs = current.generation == 0 || snapshot.is_some();
        let generation = if differs { publisher.publish(snapshot.unwrap_or_default()) } else { current.generation };
        log_changes(&report.borrow().diagnostics, &findings);
        report.send_modify(|report| {
            report.ready = true;
            report.state.restored = restored;
            report.rebuilds += 1;
            report.compile_seconds = compile_seconds;
            report.diagnostics = findings.into_iter().collect();
            report.identities = Arc::new(identities);
            report.ingresses = ingresses;
            report.coverage = coverage;
            report.held = held;
            if differs {
                report.generation = generation;
                report.published_at = Some(SystemTime::now());
                count(report, since.elapsed());
                tracing::debug!(generation, compiled, compile_seconds, seconds = since.elapsed().as_secs_f64(), "table published");
            }
        });
    }
}

/// Those that are ours, and those that somebody's status is kept on.
fn served(incremental: &Incremental) -> Arc<[Served]> {
    let shown = incremental.ingresses().filter(|standing| standing.accepted || standing.newest.metadata.managed_fields.is_some());
    let served = |Standing { newest, in_force, accepted }: Standing<'_>| {
        let previous = (!Arc::ptr_eq(newest, in_force)).then(|| Arc::clone(in_force));
        Served { object: Arc::clone(newest), previous, accepted }
    };
    shown.map(served).collect()
}

/// The Ingresses whose newest version isn't in force, since it wasn't understood, or is worse than the one before it; sorted.
fn not_in_force(held: &[(Key, Arc<str>)], ingresses: &[Served]) -> Arc<[ObjectName]> {
    let ingress = |namespace: &Arc<str>, name: &Arc<str>| ObjectName {
        kind: Kind::Ingress.name(),
        namespace: Arc::clone(namespace),
        name: Arc::clone(name),
    };
    let not_understood = held.iter().filter(|(key, _)| key.kind == Kind::Ingress).map(|(key, _)| ingress(&key.namespace, &key.name));
    let worse = ingresses.iter().filter(|served| served.previous.is_some()).filter_map(|served| {
        let metadata = &served.object.metadata;
        Some(ingress(&metadata.namespace.as_deref()?.into(), &metadata.name.as_deref()?.into()))
    });
    not_understood.chain(worse).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What one compilation makes of the objects.
struct Built {
    /// Where it is another one than before.
    snapshot: Option<Snapshot>,
    findings: BTreeSet<Diagnostic>,
    identities: BTreeMap<ObjectName, Identity>,
    ingresses: Arc<[Served]>,
    held: Arc<[ObjectName]>,
    /// How many Ingresses had to be looked at.
    compiled: usize,
    compile_seconds: f64,
}

/// Waits for the burst to end, at most until the ceiling.
async fn settle(shared: &Shared, pace: Pace) {
    let deadline = Instant::now() + pace.ceiling;
    loop {
        let quiet = (Instant::now() + pace.quiet).min(deadline);
        if timeout_at(quiet, shared.dirty()).await.is_err() || Instant::now() >= deadline {
            return;
        }
    }
}

/// Adds one publication to the config-to-live histogram.
fn count(report: &mut Report, took: Duration) {
    let seconds = took.as_secs_f64();
    report.config_to_live_sum += seconds;
    let bounds = CONFIG_TO_LIVE_BUCKETS.iter().copied().chain([f64::INFINITY]);
    for (count, bound) in report.config_to_live.iter_mut().zip(bounds) {
        *count += u64::from(seconds <= bound);
    }
}

/// Logs what is new and what is gone: a finding that persists is said once. `before` is sorted, as every report's are.
fn log_changes(before: &[Diagnostic], now: &BTreeSet<Diagnostic>) {
    for diagnostic in now.iter().filter(|diagnostic| before.binary_search(diagnostic).is_err()) {
        let (code, subject) = (diagnostic.code, diagnostic.subject.to_string());
        match diagnostic.severity {
            Severity::Error => tracing::error!(code, subject, "{diagnostic}"),
            Severity::Warning => tracing::warn!(code, subject, "{diagnostic}"),
        }
    }
    for diagnostic in before.iter().filter(|diagnostic| !now.contains(diagnostic)) {
        let (code, subject) = (diagnostic.code, diagnostic.subject.to_string());
        tracing::info!(code, subject, "fixed: {diagnostic}");
    }
}

#[cfg(test)]
mod tests;
