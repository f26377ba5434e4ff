//! `nodegate serve`: everything is bound before anything is served, and a signal lets what runs come to its end.

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use anyhow::Context;
use socket2::{Domain, Socket, Type};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time,
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    access_log,
    admin::{self, Listener, Scope},
    config::{ServeSettings, limits},
    proxy,
    source::{Report, SourceError},
    table,
};

/// Serves until a signal. Errors are those of the start: nothing has been served then.
pub(super) fn serve(settings: ServeSettings) -> anyhow::Result<ExitCode> {
    // The control threads: source, admin, signals. Two, so that a long compilation's bookkeeping doesn't hold up a health check. Requests are
    // handled by the proxy's own threads.
    let runtime =
        Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build().context("can't start the runtime")?;
    let code = runtime.block_on(start(settings));
    // Whatever still runs (a watch, a scrape) ends with the process.
    runtime.shutdown_background();
    code
}

async fn start(settings: ServeSettings) -> anyhow::Result<ExitCode> {
    let ServeSettings { source, compile, mut proxy, http_is_default, admin, metrics, access_log, log_filter, shown } = settings;
    let mut signals = Signals::install().context("can't handle signals")?;
    log_to_stderr(log_filter);
    if http_is_default && Socket::new(Domain::IPV6, Type::STREAM, None).is_err() {
        proxy.http.retain(SocketAddr::is_ipv4);
    }
    let drain_timeout = proxy.limits.drain_timeout;
    let cant_open = match &access_log {
        access_log::Output::File(path) => format!("can't open the access log {}", path.display()),
        access_log::Output::Stdout | access_log::Output::Off => "can't start the access log".to_owned(),
    };

    let source = source.open().await?;
    let (logs, log_writer) = access_log::start(access_log, proxy.workers).context(cant_open)?;
    let mut listeners = vec![listen(admin, Scope::Admin).await?];
    if let Some(metrics) = metrics {
        listeners.push(listen(metrics, Scope::Metrics).await?);
    }
    let bound = proxy::bind(proxy)?;
    announce(&listeners, &bound.addresses());

    let (publisher, reader) = table::channel();
    let (report_sender, report) = watch::channel(Report::default());
    let (draining_sender, draining) = watch::channel(false);
    let state = Arc::new(admin::State {
        table: reader.clone(),
        report: report.clone(),
        proxy: OnceLock::new(),
        draining,
        log_lost: log_writer.lost(),
        settings: shown,
        started: SystemTime::now(),
    });
    for listener in listeners {
        tokio::spawn(listener.serve(Arc::clone(&state)));
    }
    tokio::spawn(async move { source_ended(&source.run(compile, publisher, report_sender).await) });

    tokio::select! {
        () = first_table(report) => {}
        code = signals.next() => {
            info!(code, "stopped before the first configuration was complete");
            return Ok(ExitCode::SUCCESS);
        }
    }
    let handle = bound.start(&reader, logs).context("can't start the workers")?;
    // Set once, here.
    let _ = state.proxy.set(handle.clone());
    info!(version = env!("CARGO_PKG_VERSION"), "serving");

    signals.next().await;
    info!(timeout_s = drain_timeout.as_secs_f64(), "draining");
    draining_sender.send_replace(true);
    handle.drain(drain_timeout);
    let ended = async move {
        if time::timeout(drain_timeout + limits::DRAIN_MARGIN, handle.drained()).await.is_err() {
            warn!("some workers didn't end in time");
        }
        let written = tokio::task::spawn_blocking(move || log_writer.finish(limits::LOG_FINISH_TIMEOUT));
        if !written.await.unwrap_or_default() {
            warn!("the access log's last lines couldn't be written");
        }
    };
    tokio::select! {
        () = ended => {
            info!("drained");
            Ok(ExitCode::SUCCESS)
        }
        // As a shell reports a process that the signal ended: 130 for SIGINT, 143 for SIGTERM.
        code = signals.next() => {
            warn!(code, "second signal: stopped at once");
            Ok(ExitCode::from(code))
        }
    }
}

async fn listen(address: SocketAddr, scope: Scope) -> anyhow::Result<Listener> {
    let name = name(scope);
    Listener::bind(address, scope).await.with_context(|| format!("can't listen on {name} {address}"))
}

/// One line for each address, with the real port where 0 was asked for: scripts and tests read these.
fn announce(listeners: &[Listener], http: &[SocketAddr]) {
    for address in http {
        info!(listener = "http", %address, "listening");
    }
    for listener in listeners {
        info!(listener = name(listener.scope()), address = %listener.address(), "listening");
    }
}

fn name(scope: Scope) -> &'static str {
    match scope {
        Scope::Admin => "admin",
        Scope::Metrics => "metrics",
    }
}

/// Until there is a table, connections wait in the listening queue; but not for ever.
async fn first_table(mut report: watch::Receiver<Report>) {
    let ready = time::timeout(limits::FIRST_TABLE_WAIT, report.wait_for(|report| report.ready)).await;
    if !matches!(ready, Ok(Ok(_))) {
        warn!("no complete configuration yet: answering 503 until there is one");
    }
}

/// A source doesn't end; where one does, the last table keeps serving.
fn source_ended(result: &Result<std::convert::Infallible, SourceError>) {
    if let Err(error) = result {
        error!(%error, "the configuration's source has failed: what was served before stays served");
    }
}

fn log_to_stderr(filter: EnvFilter) {
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_span_list(false);
    // A second subscriber is an error only where the whole process is a test.
    let _ = subscriber.with_env_filter(filter).with_writer(io::stderr).try_init();
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one, as the exit code that a shell would report for it: 128 and its number.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 143,
            _ = self.interrupt.recv() => 130,
        }
    }
}
