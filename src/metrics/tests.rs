//! That requests are counted where they belong, that numbers stay bounded, and that the text is what a Prometheus can parse.

use std::{
    collections::{BTreeMap, HashSet},
    time::SystemTime,
};

use super::*;
use crate::{
    certificate::Certificate,
    compile::{Diagnostic, Severity, Subject},
    event,
    route::{Backend, BackendId, Builder, Endpoints, Policy, Protocol, Snapshot, Target},
    source::{Coverage, Report, State},
    table::Published,
};

fn route(namespace: &str, name: &str) -> Arc<Route> {
    Arc::new(Route {
        ingress: Arc::new(IngressId { namespace: namespace.into(), name: name.into() }),
        backend: Arc::new(Backend {
            id: BackendId { namespace: namespace.into(), service: "api".into(), port: "80".into() },
            protocol: Protocol::Http1,
            target: Target::Endpoints,
            endpoints: Endpoints::Unknown,
        }),
        policy: Policy::default(),
    })
}

fn scrape(workers: Vec<Numbers>) -> Scrape {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    Scrape {
        workers,
        missing_workers: 0,
        report: Report::default(),
        table: Arc::new(Published { generation: 0, snapshot: Snapshot::default() }),
        events: event::Tally::default(),
        ready: true,
        log_lost: 0,
        cluster: None,
        handovers: Handovers::default().values(),
        started: now,
        now,
    }
}

/// A strict reader of the text: every sample belongs to the family declared last, has its suffix, parses, and comes only once.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
    let (mut samples, mut families) = (BTreeMap::new(), HashSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} declared twice");
            assert!(help.ends_with('.'), "{help}");
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, declared) = declared.split_once(' ').unwrap();
            assert_eq!(name, family);
            kind = declared.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_sum", "_count", "_bucket"],
                other => panic!("type {other}"),
            };
            assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{line} in {family} ({kind})");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} twice");
        }
    }
    samples
}

#[test]
fn requests_are_summed_over_workers_by_ingress_and_class() {
    let (web, api) = (route("shop", "web"), route("shop", "api"));
    let mut workers = vec![Numbers::default(), Numbers::default()];
    for (worker, route, status, reason) in [
        (0, Some(&web), 200, None),
        (1, Some(&web), 204, None),
        (1, Some(&web), 503, Some("no_endpoints")),
        (0, Some(&api), 301, None),
        (0, None, 404, Some("no_route")),
        (1, None, 404, Some("no_route")),
        (1, Some(&api), 999, None),
        (1, Some(&api), 0, None),
    ] {
        workers[worker].request(route, status, reason, Duration::from_millis(3), Some(Duration::from_micros(400)), 10, 20);
    }
    let samples = parse(&render(scrape(workers)));
    for (series, expected) in [
        (r#"nodegate_requests_total{namespace="shop",ingress="web",status="2xx"}"#, 2.0),
        (r#"nodegate_requests_total{namespace="shop",ingress="web",status="5xx"}"#, 1.0),
        (r#"nodegate_requests_total{namespace="shop",ingress="api",status="3xx"}"#, 1.0),
        (r#"nodegate_requests_total{namespace="shop",ingress="api",status="5xx"}"#, 1.0),
        (r#"nodegate_requests_total{namespace="shop",ingress="api",status="1xx"}"#, 1.0),
        (r#"nodegate_requests_total{namespace="",ingress="",status="4xx"}"#, 2.0),
        (r#"nodegate_answers_total{reason="no_route"}"#, 2.0),
        (r#"nodegate_answers_total{reason="no_endpoints"}"#, 1.0),
        (r#"nodegate_request_body_bytes_total{namespace="shop",ingress="web"}"#, 30.0),
        (r#"nodegate_response_body_bytes_total{namespace="shop",ingress="web"}"#, 60.0),
        (r#"nodegate_request_duration_seconds_count{namespace="shop",ingress="web"}"#, 3.0),
        (r#"nodegate_request_duration_seconds_sum{namespace="shop",ingress="web"}"#, 0.009),
        (r#"nodegate_request_duration_seconds_bucket{le="0.0025",namespace="shop",ingress="web"}"#, 0.0),
        (r#"nodegate_request_duration_seconds_bucket{le="0.005",namespace="shop",ingress="web"}"#, 3.0),
        (r#"nodegate_request_duration_seconds_bucket{le="+Inf",namespace="shop",ingress="web"}"#, 3.0),
        (r#"nodegate_upstream_duration_seconds_bucket{le="0.0005",namespace="shop",ingress="web"}"#, 3.0),
    ] {
        assert_eq!(samples.get(series), Some(&expected), "{series}");
    }
    assert!(!samples.contains_key(r#"nodegate_requests_total{namespace="shop",ingress="web",status="4xx"}"#));
}

#[test]
fn backend_that_never_answered_has_no_durations() {
    let mut numbers = Numbers::default();
    numbers.request(Some(&route("ns", "down")), 503, Some("no_endpoints"), Duration::ZERO, None, 0, 0);
    let samples = parse(&render(scrape(vec![numbers])));
    assert!(samples.contains_key(r#"nodegate_request_duration_seconds_count{namespace="ns",ingress="down"}"#));
    assert!(!samples.keys().any(|series| series.starts_with("nodegate_upstream_duration_seconds")));
}

#[test]
fn durations_fall_into_the_smallest_bucket_that_holds_them() {
    for (duration, bucket) in [
        (Duration::ZERO, 0),
        (Duration::from_micros(500), 0),
        (Duration::from_micros(501), 1),
        (Duration::from_secs(60), 14),
        (Duration::from_secs(61), 15),
        (Duration::MAX, 15),
    ] {
        let mut histogram = Histogram::default();
        histogram.observe(duration);
        assert_eq!(histogram.counts.iter().position(|count| *count == 1), Some(bucket), "{duration:?}");
    }
}

#[test]
fn what_is_left_of_each_certificate_is_told_also_when_nothing_is() {
    let certificate = |secret: &str, year: i32| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let issued = params.self_signed(&key).unwrap();
        Arc::new(Certificate::parse(secret.into(), issued.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap())
    };
    let ingress = Arc::new(IngressId { namespace: "shop".into(), name: "web".into() });
    let mut table = Builder::default();
    table.default_certificate(certificate("shop/old", 1970));
    for host in ["a.example", "*.example"] {
        table.certificate(&host.parse().unwrap(), &certificate("shop/new", 1971), &ingress).unwrap();
    }
    let table = Arc::new(Published { generation: 1, snapshot: table.build() });
    let samples = parse(&render(Scrape { table, ..scrape(vec![]) }));
    assert_eq!(samples.get(r#"nodegate_certificate_expiry_seconds{secret="shop/new"}"#), Some(&(365.0 * 86_400.0 - 1_000_000.0)));
    assert_eq!(samples.get(r#"nodegate_certificate_expiry_seconds{secret="shop/old"}"#), Some(&-1_000_000.0));
}

#[test]
fn labels_are_escaped() {
    let mut numbers = Numbers::default();
    numbers.request(Some(&route("a\"b\\c\nd", "x")), 200, None, Duration::ZERO, None, 0, 0);
    let samples = parse(&render(scrape(vec![numbers])));
    assert!(samples.contains_key(r#"nodegate_requests_total{namespace="a\"b\\c\nd",ingress="x",status="2xx"}"#));
}

#[test]
fn every_number_of_a_worker_is_shown() {
    // One distinct value for each field: a field that is shown nowhere, or in another's place, is missed below.
    let numbers = Numbers {
        connections_open: 101,
        connections_idle: 121,
        connections_accepted: 102,
        connections_refused: 103,
        connections_evicted: 104,
        handshakes: 122,
        handshakes_failed: 123,
        handshakes_dropped: 128,
        handshakes_timed_out: 124,
        http2_floods: 125,
        redirects_withheld: 126,
        proxy_headers_bad: 127,
        accept_paused: 105,
        active_requests: 106,
        tunnels_open: 107,
        upstream_open: 230,
        upstream_idle: 109,
        upstream_dials: 110,
        upstream_dial_failures: 111,
        upstream_reused: 112,
        retries: 113,
        retries_denied: 114,
        keep_alive_timeouts: 115,
        request_timeouts: 116,
        write_stalls: 117,
        response_stalls: 118,
        tunnel_timeouts: 119,
        log_dropped: 120,
        ..Numbers::default()
    };
    let samples = parse(&render(Scrape { log_lost: 1000, ..scrape(vec![numbers.clone(), numbers]) }));
    for (series, expected) in [
        ("nodegate_connections", 202.0),
        ("nodegate_connections_idle", 242.0),
        ("nodegate_connections_accepted_total", 204.0),
        ("nodegate_connections_refused_total", 206.0),
        ("nodegate_connections_evicted_total", 208.0),
        (r#"nodegate_tls_handshakes_total{result="completed"}"#, 244.0),
        (r#"nodegate_tls_handshakes_total{result="failed"}"#, 246.0),
        (r#"nodegate_tls_handshakes_total{result="dropped"}"#, 256.0),
        ("nodegate_http2_floods_total", 250.0),
        ("nodegate_redirects_withheld_total", 252.0),
        ("nodegate_proxy_protocol_errors_total", 254.0),
        (r#"nodegate_timeouts_total{kind="handshake"}"#, 248.0),
        ("nodegate_accept_pauses_total", 210.0),
        ("nodegate_active_requests", 212.0),
        ("nodegate_tunnels", 214.0),
        (r#"nodegate_upstream_connections{state="active"}"#, 242.0),
        (r#"nodegate_upstream_connections{state="idle"}"#, 218.0),
        ("nodegate_upstream_dials_total", 220.0),
        ("nodegate_upstream_dial_failures_total", 222.0),
        ("nodegate_upstream_reused_total", 224.0),
        ("nodegate_retries_total", 226.0),
        ("nodegate_retries_denied_total", 228.0),
        (r#"nodegate_timeouts_total{kind="keep_alive"}"#, 230.0),
        (r#"nodegate_timeouts_total{kind="request"}"#, 232.0),
        (r#"nodegate_timeouts_total{kind="write_stall"}"#, 234.0),
        (r#"nodegate_timeouts_total{kind="response_stall"}"#, 236.0),
        (r#"nodegate_timeouts_total{kind="tunnel"}"#, 238.0),
        ("nodegate_access_log_dropped_total", 1240.0),
    ] {
        assert_eq!(samples.get(series), Some(&expected), "{series}");
    }
}

#[test]
fn configuration_is_shown() {
    let finding = |severity| Diagnostic {
        severity,
        code: "x",
        subject: Subject::File { path: "a".into(), document: 0, line: 0 },
        message: String::new(),
        help: String::new(),
    };
    let base = scrape(Vec::new());
    let report = Report {
        identities: Arc::default(),
        ready: true,
        generation: 7,
        published_at: Some(base.now - Duration::from_millis(2500)),
        diagnostics: [Severity::Error, Severity::Warning, Severity::Warning].map(finding).into(),
        ingresses: Arc::default(),
        coverage: Coverage::default(),
        held: Arc::default(),
        state: State {
            restored: Some(base.now - Duration::from_secs(90)),
            saved: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(31)),
            errors: 32,
        },
        rebuilds: 9,
        compile_seconds: 0.125,
        config_to_live: [1, 1, 3, 3, 3, 3, 3, 3, 4],
        config_to_live_sum: 12.5,
    };
    let events = event::Tally { written: 5, errors: 6, pending: 7 };
    let cluster =
        ClusterNumbers { leads: true, status_writes: 21, status_errors: 22, status_contested: 23, reports_written: 24, report_errors: 25 };
    let samples = parse(&render(Scrape { report, events, ready: false, missing_workers: 2, cluster: Some(cluster), ..base }));
    for (series, expected) in [
        ("nodegate_leader", 1.0),
        ("nodegate_status_writes_total", 21.0),
        ("nodegate_status_errors_total", 22.0),
        ("nodegate_status_contested_total", 23.0),
        ("nodegate_reports_written_total", 24.0),
        ("nodegate_report_errors_total", 25.0),
        ("nodegate_ready", 0.0),
        ("nodegate_workers_missing", 2.0),
        ("nodegate_snapshot_generation", 7.0),
        ("nodegate_snapshot_age_seconds", 2.5),
        ("nodegate_state_served_age_seconds", 90.0),
        ("nodegate_state_saved_timestamp_seconds", 31.0),
        ("nodegate_state_errors_total", 32.0),
        ("nodegate_rebuilds_total", 9.0),
        ("nodegate_compile_seconds", 0.125),
        (r#"nodegate_diagnostics{severity="error"}"#, 1.0),
        (r#"nodegate_diagnostics{severity="warning"}"#, 2.0),
        (r#"nodegate_config_to_live_seconds_bucket{le="0.025"}"#, 1.0),
        (r#"nodegate_config_to_live_seconds_bucket{le="0.1"}"#, 3.0),
        (r#"nodegate_config_to_live_seconds_bucket{le="+Inf"}"#, 4.0),
        ("nodegate_config_to_live_seconds_count", 4.0),
        ("nodegate_config_to_live_seconds_sum", 12.5),
        ("nodegate_events_written_total", 5.0),
        ("nodegate_event_errors_total", 6.0),
        ("nodegate_events_pending", 7.0),
    ] {
        assert_eq!(samples.get(series), Some(&expected), "{series}");
    }
    assert!(samples["process_resident_memory_bytes"] > 0.0);
    assert_eq!(samples.keys().filter(|series| series.starts_with("nodegate_build_info{version=")).count(), 1);
}

#[test]
fn ingresses_beyond_the_limit_are_counted_together() {
    let mut numbers = Numbers::default();
    for i in 0..=limits::METRIC_INGRESSES {
        numbers.request(Some(&route("ns", &i.to_string())), 200, None, Duration::ZERO, None, 0, 0);
    }
    assert_eq!((numbers.ingresses.len(), numbers.other.classes[1]), (limits::METRIC_INGRESSES, 1));
    // One that is known is still counted under its own name.
    numbers.request(Some(&route("ns", "5")), 200, None, Duration::ZERO, None, 0, 0);
    assert_eq!(numbers.other.classes[1], 1);
}

#[test]
fn ingress_without_requests_is_forgotten_after_many_scrapes() {
    let (idle, busy) = (route("ns", "idle"), route("ns", "busy"));
    let mut numbers = Numbers::default();
    numbers.request(Some(&idle), 200, None, Duration::ZERO, None, 0, 0);
    for _ in 0..limits::METRIC_IDLE_SCRAPES {
        numbers.request(Some(&busy), 200, None, Duration::ZERO, None, 0, 0);
        assert_eq!(numbers.scrape().ingresses.len(), 2);
    }
    assert_eq!(numbers.scrape().ingresses.keys().map(|id| &*id.name).collect::<Vec<_>>(), ["busy"]);
}
