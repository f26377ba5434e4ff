//! The numbers as OpenMetrics text, through a prometheus-client collector: names, help texts and labels are all here.

use std::{fmt, sync::Arc, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{BUCKETS_US, Histogram, Numbers, labels::Labelled, out::Out, process, tls};
use crate::{
    compile::Severity,
    event,
    source::{CONFIG_TO_LIVE_BUCKETS, Report, State},
    table::Published,
};

/// The media type of what [`render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What one scrape is made of.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// Every worker's numbers ([`Numbers::scrape`]).
    pub workers: Vec<Numbers>,
    /// Workers that didn't answer in time, and are missing from the sums.
    pub missing_workers: usize,
    /// The control thread's state.
    pub report: Report,
    /// The table in force.
    pub table: Arc<Published>,
    /// What the writer of Kubernetes Events has done.
    pub events: event::Tally,
    /// What `/readyz` answers.
    pub ready: bool,
    /// Access-log lines that the output refused ([`crate::access_log::Lost`]).
    pub log_lost: u64,
    /// What is written to the cluster; nothing in file mode.
    pub cluster: Option<ClusterNumbers>,
    /// What became of handovers ([`super::Handovers::values`]).
    pub handovers: [(&'static str, u64); 4],
    /// When the process started.
    pub started: SystemTime,
    /// The time of the scrape.
    pub now: SystemTime,
}

/// What this process has written to its cluster.
#[derive(Debug, Clone, Copy)]
pub struct ClusterNumbers {
    /// It is the one that writes.
    pub leads: bool,
    /// Statuses of Ingresses written.
    pub status_writes: u64,
    /// Writes of statuses that failed.
    pub status_errors: u64,
    /// Times that another writer changed a status of ours.
    pub status_contested: u64,
    /// Reports of what is served.
    pub reports_written: u64,
    /// Such reports that couldn't be written.
    pub report_errors: u64,
}

/// The whole exposition, the workers summed up.
pub fn render(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition::new(scrape)));
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Exposition {
    sum: Numbers,
    scrape: Scrape,
    process: process::Process,
}

impl Exposition {
    fn new(mut scrape: Scrape) -> Self {
        let mut sum = Numbers::default();
        for worker in std::mem::take(&mut scrape.workers) {
            sum.add(&worker);
        }
        Self { sum, scrape, process: process::read() }
    }
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        requests(&self.sum, &mut out)?;
        connections(&self.sum, self.scrape.log_lost, &mut out)?;
        tls::handshakes(&self.sum, &mut out)?;
        tls::certificates(&self.scrape.table, self.scrape.now, &mut out)?;
        configuration(&self.scrape, &mut out)?;
        state(&self.scrape, &mut out)?;
        cluster(self.scrape.cluster, &mut out)?;
        process(&self.process, &self.scrape, &mut out)
    }
}

fn requests(sum: &Numbers, out: &mut Out<'_>) -> fmt::Result {
    let mut series: Vec<Labelled<'_>> =
        sum.ingresses.iter().map(|(id, series)| Labelled { namespace: &id.namespace, ingress: &id.name, series }).collect();
    series.sort_by_key(|one| (one.namespace, one.ingress));
    series.insert(0, Labelled { namespace: "", ingress: "", series: &sum.no_route });
    // No Ingress can be called this: underscores aren't allowed in names of objects.
    series.push(Labelled { namespace: "", ingress: "_other", series: &sum.other });
    series.retain(|one| !one.series.is_empty());

    let mut family =
        out.family("nodegate_requests", "Requests, by Ingress (empty where none matched) and class of status.", MetricType::Counter)?;
    for one in &series {
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(one.series.classes) {
            if count > 0 {
                family.encode_family(&one.labels(Some(("status", class))))?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            }
        }
    }
    let help = "Time from a request's head to the end of its answer, by Ingress.";
    let mut family = out.family("nodegate_request_duration_seconds", help, MetricType::Histogram)?;
    for one in &series {
        one.series.total.encode(&mut family.encode_family(&one.labels(None))?)?;
    }
    let help = "Time from sending a request to the first byte of the backend's answer, by Ingress.";
    let mut family = out.family("nodegate_upstream_duration_seconds", help, MetricType::Histogram)?;
    for one in series.iter().filter(|one| !one.series.upstream.is_empty()) {
        one.series.upstream.encode(&mut family.encode_family(&one.labels(None))?)?;
    }
    let mut family = out.family("nodegate_request_body_bytes", "Bytes of requests' bodies, by Ingress.", MetricType::Counter)?;
    for one in &series {
        family.encode_family(&one.labels(None))?.encode_counter::<NoLabelSet, _, f64>(&one.series.bytes_in, None)?;
    }
    let mut family = out.family("nodegate_response_body_bytes", "Bytes of answers' bodies, by Ingress.", MetricType::Counter)?;
    for one in &series {
        family.encode_family(&one.labels(None))?.encode_counter::<NoLabelSet, _, f64>(&one.series.bytes_out, None)?;
    }
    let mut reasons: Vec<(&str, u64)> = sum.reasons.clone();
    reasons.sort_unstable();
    out.counters("nodegate_answers", "Answers that were Nodegate's own or ended early, by reason.", "reason", &reasons)?;
    out.gauge("nodegate_active_requests", "Requests between their head and the end of their answer.", sum.active_requests)
}

fn connections(sum: &Numbers, log_lost: u64, out: &mut Out<'_>) -> fmt::Result {
    out.gauge("nodegate_connections", "Open client connections.", sum.connections_open)?;
    out.gauge(
        "nodegate_connections_idle",
        "Client connections that had no request in the last second, or none yet.",
        sum.connections_idle,
    )?;
    out.counter("nodegate_connections_accepted", "Client connections accepted.", sum.connections_accepted)?;
    out.counter("nodegate_connections_refused", "Client connections closed at accept, as --allow-peers asks.", sum.connections_refused)?;
    out.counter("nodegate_connections_evicted", "Idle client connections closed to make room for new ones.", sum.connections_evicted)?;
    out.counter("nodegate_accept_pauses", "Times that accepting stopped for want of room or file descriptors.", sum.accept_paused)?;
    out.counter("nodegate_http2_floods", "HTTP/2 connections ended because of a flood of frames or resets.", sum.http2_floods)?;
    let help = "Connections closed because they didn't begin with the PROXY protocol that --proxy-protocol asks of their peer.";
    out.counter("nodegate_proxy_protocol_errors", help, sum.proxy_headers_bad)?;
    let help = "Redirects to HTTPS withheld, since the request says that it came over HTTPS, from a peer that isn't trusted.";
    out.counter("nodegate_redirects_withheld", help, sum.redirects_withheld)?;
    out.gauge("nodegate_tunnels", "Open tunnels (WebSocket).", sum.tunnels_open)?;
    let active = sum.upstream_open.saturating_sub(sum.upstream_idle);
    let states = [("active", active), ("idle", sum.upstream_idle)];
    out.gauges("nodegate_upstream_connections", "Open connections to backends, by state.", "state", &states)?;
    out.counter("nodegate_upstream_dials", "Attempts to connect to a backend.", sum.upstream_dials)?;
    out.counter("nodegate_upstream_dial_failures", "Attempts to connect to a backend that failed.", sum.upstream_dial_failures)?;
    out.counter("nodegate_upstream_reused", "Requests sent on a connection that was used before.", sum.upstream_reused)?;
    out.counter("nodegate_retries", "Attempts after a request's first.", sum.retries)?;
    out.counter("nodegate_retries_denied", "Retries that the budget didn't allow.", sum.retries_denied)?;
    let timeouts = [
        ("keep_alive", sum.keep_alive_timeouts),
        ("handshake", sum.handshakes_timed_out),
        ("request", sum.request_timeouts),
        ("response_stall", sum.response_stalls),
        ("tunnel", sum.tunnel_timeouts),
        ("write_stall", sum.write_stalls),
    ];
    out.counters(
        "nodegate_timeouts",
        "Connections closed because nothing came or went for too long, by what was waited for.",
        "kind",
        &timeouts,
    )?;
    let lost = sum.log_dropped.saturating_add(log_lost);
    out.counter("nodegate_access_log_dropped", "Access-log lines dropped because the output was behind or gone.", lost)
}

fn configuration(scrape: &Scrape, out: &mut Out<'_>) -> fmt::Result {
    let Report {
        ready: _,
        generation,
        published_at,
        diagnostics,
        identities: _,
        ingresses: _,
        coverage: _,
        held: _,
        state: _,
        rebuilds,
        compile_seconds,
        config_to_live,
        config_to_live_sum,
    } = &scrape.report;
    out.gauge("nodegate_ready", "1 if /readyz answers 200.", u64::from(scrape.ready))?;
    out.gauge("nodegate_workers_missing", "Workers whose numbers are missing from this scrape.", scrape.missing_workers as u64)?;
    out.gauge("nodegate_snapshot_generation", "Generation of the route table in force.", *generation)?;
    if let Some(age) = published_at.and_then(|at| scrape.now.duration_since(at).ok()) {
        out.gauge_f64("nodegate_snapshot_age_seconds", "Time since the route table in force was published.", age.as_secs_f64())?;
    }
    out.counter("nodegate_rebuilds", "Compilations of the configuration, whether or not the table changed.", *rebuilds)?;
    out.gauge_f64("nodegate_compile_seconds", "Time that the last compilation of the configuration took.", *compile_seconds)?;
    let of = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count() as u64;
    let severities = [("error", of(Severity::Error)), ("warning", of(Severity::Warning))];
    out.gauges("nodegate_diagnostics", "Findings about the current objects, by severity.", "severity", &severities)?;

    let event::Tally { written, errors, pending } = scrape.events;
    out.counter("nodegate_events_written", "Kubernetes Events created or changed, by the leader.", written)?;
    out.counter("nodegate_event_errors", "Requests about Kubernetes Events that failed or were refused.", errors)?;
    out.gauge("nodegate_events_pending", "Kubernetes Events that don't say yet what they should.", pending)?;

    let help = "Time from the first event of a burst to the published table.";
    let mut encoder = out.family("nodegate_config_to_live_seconds", help, MetricType::Histogram)?;
    // The report's counts are cumulative; the encoder adds them up itself.
    let mut before = 0;
    let bounds = CONFIG_TO_LIVE_BUCKETS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> =
        bounds.zip(config_to_live).map(|(bound, count)| (bound, count.saturating_sub(std::mem::replace(&mut before, *count)))).collect();
    encoder.encode_histogram::<NoLabelSet>(*config_to_live_sum, before, &buckets, None)
}

/// The copy of the objects on disk.
fn state(scrape: &Scrape, out: &mut Out<'_>) -> fmt::Result {
    let State { restored, saved, errors } = scrape.report.state;
    if let Some(written) = restored {
        let help = "How old the objects are that are served from disk, while the API server hasn't answered since the start.";
        out.gauge("nodegate_state_served_age_seconds", help, scrape.now.duration_since(written).unwrap_or_default().as_secs())?;
    }
    if let Some(at) = saved.and_then(|saved| saved.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        out.gauge("nodegate_state_saved_timestamp_seconds", "When the objects were last written to disk.", at.as_secs())?;
    }
    out.counter("nodegate_state_errors", "Writes of the objects to disk that failed.", errors)
}

fn cluster(numbers: Option<ClusterNumbers>, out: &mut Out<'_>) -> fmt::Result {
    let Some(numbers) = numbers else { return Ok(()) };
    let ClusterNumbers { leads, status_writes, status_errors, status_contested, reports_written, report_errors } = numbers;
    out.gauge("nodegate_leader", "1 if this is the one that writes to the cluster.", u64::from(leads))?;
    out.counter("nodegate_status_writes", "Writes of an Ingress's status.", status_writes)?;
    out.counter("nodegate_status_errors", "Writes of an Ingress's status that failed.", status_errors)?;
    out.counter("nodegate_status_contested", "Times that another writer changed the addresses in an Ingress's status.", status_contested)?;
    out.counter("nodegate_reports_written", "Reports of which versions are served here.", reports_written)?;
    out.counter("nodegate_report_errors", "Reports of which versions are served here that couldn't be written.", report_errors)
}

fn process(process: &process::Process, scrape: &Scrape, out: &mut Out<'_>) -> fmt::Result {
    let process::Process { cpu_seconds, resident_bytes, open_files, max_files, threads } = *process;
    if let Some(seconds) = cpu_seconds {
        let help = "User and system CPU time.";
        out.family("process_cpu_seconds", help, MetricType::Counter)?.encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", resident_bytes),
        ("process_open_fds", "Open file descriptors.", open_files),
        ("process_max_fds", "Limit on open file descriptors.", max_files),
        ("process_threads", "Threads.", threads),
    ] {
        if let Some(value) = value {
            out.gauge(name, help, value)?;
        }
    }
    let help = "Handovers of the listening sockets between two processes on this node, by what became of them here.";
    out.counters("nodegate_handovers", help, "outcome", &scrape.handovers)?;
    let started = scrape.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    out.gauge_f64("process_start_time_seconds", "Start of the process, since the Unix epoch.", started.as_secs_f64())?;
    out.gauges("nodegate_build_info", "The version that runs.", "version", &[(env!("CARGO_PKG_VERSION"), 1)])
}

impl Histogram {
    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let bounds = BUCKETS_US.into_iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts).collect();
        encoder.encode_histogram::<NoLabelSet>(seconds(self.sum_us), self.counts.iter().sum(), &buckets, None)
    }
}

/// Exact for the bounds, and to the microsecond for any sum of durations that a process lives to see.
#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
