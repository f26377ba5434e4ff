//! `nodegate serve`: everything is bound before anything is served, and a signal lets what runs come to its end.

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use futures_util::FutureExt;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{self, Instant},
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use super::{
    handover::{self, Inherited, Line, Relay},
    parts::{Parts, parts},
    standby,
    writers::Writers,
};
use crate::{
    access_log,
    admin::{self, Listener, Scope},
    config::{ServeSettings, limits},
    handover::Name,
    proxy,
    source::{Opened, Report, Source, SourceError},
    table,
};

/// Serves until a signal. Errors are those of the start: nothing has been served then.
pub(super) fn serve(settings: ServeSettings) -> anyhow::Result<ExitCode> {
    // The control threads: source, admin, signals. Two, so that a long compilation's bookkeeping doesn't hold up a health check. Requests are
    // handled by the proxy's own threads.
    let runtime =
        Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build().context("can't start the runtime")?;
    let end = runtime.block_on(start(settings));
    // Whatever still runs (a watch, a scrape) ends with the process.
    runtime.shutdown_background();
    match end? {
        End::Exit(code) => Ok(code),
        End::StandBy => Err(standby::again()),
    }
}

/// What comes after it.
enum End {
    Exit(ExitCode),
    /// Somebody else serves again.
    StandBy,
}

async fn start(settings: ServeSettings) -> anyhow::Result<End> {
    let mut signals = Signals::install().context("can't handle signals")?;
    log_to_stderr(settings.log_filter.clone());
    let drain_timeout = settings.limits.drain_timeout;
    let Parts { source, compile, proxy, admin, metrics, handover, standby, access_log, cluster, shown } = parts(settings);
    let stands_by = standby.is_some();
    let Some((source, turn)) = opened(source, standby, admin, &mut signals).await? else { return Ok(End::Exit(ExitCode::SUCCESS)) };
    let (logs, log_writer) = start_log(access_log, proxy.workers)?;
    let mut inherited = match turn {
        Some(inherited) => inherited,
        None => handover::inherit(&handover).await?,
    };
    let listeners = inherited.listen(admin, metrics).await?;
    let mut bound = proxy::adopt(proxy, inherited.take_http())?;
    let addresses = bound.addresses();
    announce(&listeners, &bound.protocols());

    let (publisher, reader) = table::channel();
    let (report_sender, report) = watch::channel(Report::default());
    let (draining_sender, draining) = watch::channel(false);
    let line = Line::new();
    let writers = Writers::start(cluster, report.clone()).await?;
    let state = Arc::new(admin::State {
        table: reader.clone(),
        report: report.clone(),
        events: writers.events(),
        proxy: OnceLock::new(),
        draining,
        succession: line.shown(),
        log_lost: log_writer.lost(),
        cluster: writers.shown(),
        settings: shown,
        started: SystemTime::now(),
    });
    let mut relay = Relay::join(inherited, listeners, line, &state, handover.after).await;
    tokio::spawn(async move { source_ended(&source.run(compile, publisher, report_sender).await) });

    tokio::select! {
        () = relay.first_table(report) => {}
        code = signals.next() => {
            info!(code, "stopped before the first configuration was complete");
            return Ok(End::Exit(ExitCode::SUCCESS));
        }
    }
    let fresh = bound.take_fresh();
    let handle = bound.start(&reader, logs).context("can't start the workers")?;
    relay.serving(handle.clone(), addresses, fresh);

    tokio::select! {
        _ = signals.next() => {}
        () = relay.superseded() => {}
    }
    let served = relay.leave();
    draining_sender.send_replace(true);
    tokio::select! {
        () = drain(&handle, drain_timeout, writers, served, log_writer) => info!("drained"),
        // As a shell reports a process that the signal ended: 130 for SIGINT, 143 for SIGTERM.
        code = signals.second() => {
            warn!(code, "second signal: stopped at once");
            return Ok(End::Exit(ExitCode::from(code)));
        }
    }
    Ok(if stands_by && !signals.told() { End::StandBy } else { End::Exit(ExitCode::SUCCESS) })
}

/// The source, once it is this process's turn: at once, but where it stands by. Nothing where a signal has come before.
async fn opened(
    source: Source,
    standby: Option<Name>,
    admin: SocketAddr,
    signals: &mut Signals,
) -> Result<Option<(Opened, Option<Inherited>)>, SourceError> {
    let Some(name) = standby else { return Ok(Some((source.open().await?, None))) };
    tokio::select! {
        turn = standby::turn(source, admin, name) => turn.map(|(source, inherited)| Some((source, Some(inherited)))),
        code = signals.next() => {
            info!(code, "stopped, and nobody has needed it");
            Ok(None)
        }
    }
}

fn start_log(output: access_log::Output, workers: usize) -> anyhow::Result<(Vec<access_log::Local>, access_log::Writer)> {
    let cant_open = match &output {
        access_log::Output::File(path) => format!("can't open the access log {}", path.display()),
        access_log::Output::Stdout | access_log::Output::Off => "can't start the access log".to_owned(),
    };
    access_log::start(output, workers).context(cant_open)
}

/// From the first signal to the end: withdraws this node (unless it is `served` by another process), stops accepting, lets what runs finish, a leader's
/// writes too.
async fn drain(handle: &proxy::Handle, drain_timeout: Duration, writers: Writers, served: bool, log_writer: access_log::Writer) {
    let deadline = Instant::now() + drain_timeout;
    let resigned = if served { writers.resign() } else { writers.withdraw(deadline).await };
    let left = deadline.saturating_duration_since(Instant::now());
    handle.drain(left);
    info!(timeout_s = left.as_secs_f64(), "draining");
    tokio::select! {
        ended = time::timeout(left + limits::DRAIN_MARGIN, handle.drained()) => if ended.is_err() {
            warn!("some workers didn't end in time");
        },
        () = say_what_is_open(handle) => {}
    }
    let written = tokio::task::spawn_blocking(move || log_writer.finish(limits::LOG_FINISH_TIMEOUT));
    if !written.await.unwrap_or_default() {
        warn!("the access log's last lines couldn't be written");
    }
    resigned.done().await;
}

/// Says again and again what the drain waits for.
async fn say_what_is_open(handle: &proxy::Handle) {
    let mut ticks = time::interval(limits::DRAIN_REPORT);
    loop {
        ticks.tick().await;
        let proxy::Open { connections, idle, requests, tunnels, missing_workers: _ } = handle.open().await;
        info!(connections, idle, requests, tunnels, "still open");
    }
}

/// One line for each address, with the real port where 0 was asked for: scripts and tests read these.
fn announce(listeners: &[Listener], served: &[(SocketAddr, proxy::Protocol)]) {
    for (address, protocol) in served {
        info!(listener = protocol.name(), %address, "listening");
    }
    for listener in listeners {
        info!(listener = name(listener.scope()), address = %listener.address(), "listening");
    }
}

pub(super) fn name(scope: Scope) -> &'static str {
    match scope {
        Scope::Admin => "admin",
        Scope::Metrics => "metrics",
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
    /// The first that has come, and when.
    first: Option<(u8, Instant)>,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, first: None })
    }

    /// The next one, as the exit code that a shell would report for it: 128 and its number.
    async fn next(&mut self) -> u8 {
        let code = tokio::select! {
            _ = self.terminate.recv() => 143,
            _ = self.interrupt.recv() => 130,
        };
        self.first.get_or_insert_with(|| (code, Instant::now()));
        code
    }

    /// The one after the first, which may still be to come, that isn't the first one's echo.
    async fn second(&mut self) -> u8 {
        loop {
            let before = self.first;
            let code = self.next().await;
            if before.is_some_and(|(first, at)| code != first || at.elapsed() > limits::SIGNAL_REPEAT) {
                return code;
            }
        }
    }

    /// Whether one has come, if only now.
    fn told(&mut self) -> bool {
        self.next().now_or_never();
        self.first.is_some()
    }
}
