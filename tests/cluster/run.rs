//! Runs scenarios one after another on one cluster, inside the sandbox, and ends whatever happens in them.

use std::{
    process::ExitCode,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use tokio::{runtime::Runtime, time::timeout};

use crate::{Arguments, artifacts, chosen, cluster::Cluster, scenarios::Scenario};

/// No scenario may take longer, nor the cluster to come up. Longer than a few deadlines of the waits in them: those say more.
const LONGEST: Duration = Duration::from_mins(10);
/// The same for a scenario's long form.
const LONGEST_AT_LENGTH: Duration = Duration::from_hours(1);
/// How much later a scenario is left behind that waits where no timeout of the runtime reaches it.
const MARGIN: Duration = Duration::from_mins(1);
/// What is asked for a failure's traces may not answer either.
const COLLECTING: Duration = Duration::from_mins(2);
/// What all scenarios together take at most, says the README.
const EXPECTED: Duration = Duration::from_mins(25);

/// Brings the cluster up and runs the scenarios that were asked for, until one fails. Success if all of them pass.
pub fn run(arguments: &Arguments) -> ExitCode {
    let scenarios = chosen(arguments).expect("checked before");
    // Both live as long as the process: a thread that is stuck may still use them.
    let runtime: &Runtime = Box::leak(Box::new(Runtime::new().expect("a runtime")));
    let nodes = arguments.nodes;
    let cluster: &Cluster = match attempt(runtime, LONGEST, async move || Cluster::up(nodes).await) {
        Ok(cluster) => Box::leak(Box::new(cluster)),
        Err(error) => {
            eprintln!("the cluster did not come up: {error:#}");
            collect(|| artifacts::collect_logs("up").display().to_string());
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed, began) = (0, 0, Instant::now());
    for scenario in scenarios {
        if cluster.nodes.len() < scenario.nodes {
            println!("left out {:<22} it needs {} nodes", scenario.name, scenario.nodes);
        } else if failed > 0 {
            // The one that failed may have left anything behind; what came out here would tell nothing.
            println!("not run  {}", scenario.name);
        } else if passes(runtime, cluster, scenario, arguments.long) {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    println!("the scenarios took {:.0} s", began.elapsed().as_secs_f32());
    if began.elapsed() > EXPECTED && !arguments.long {
        println!("warning: that is more than {EXPECTED:?}");
    }
    if arguments.keep {
        println!("The cluster stays up until Ctrl-C. To look inside:\n{}", cluster.look_inside());
        _ = runtime.block_on(tokio::signal::ctrl_c());
    }
    if arguments.names.is_empty() && !arguments.long && failed == 0 {
        artifacts::note_passed(passed);
    }
    // The last line, for CI.
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One scenario, and its line.
fn passes(runtime: &'static Runtime, cluster: &'static Cluster, scenario: &'static Scenario, long: bool) -> bool {
    let began = Instant::now();
    let (longest, run) = match scenario.long {
        Some(run) if long => (LONGEST_AT_LENGTH, run),
        _ => (LONGEST, scenario.run),
    };
    let result = attempt(runtime, longest, async move || run(cluster).await);
    let took = began.elapsed().as_secs_f32();
    if let Err(error) = result {
        println!("FAILED  {:<24} {took:6.1} s\n{error:#}", scenario.name);
        collect(|| artifacts::collect(cluster, scenario.name).display().to_string());
        return false;
    }
    println!("ok      {:<24} {took:6.1} s", scenario.name);
    true
}

/// Work that has so long, and then [`MARGIN`] to notice that.
fn attempt<T: Send + 'static>(
    runtime: &'static Runtime,
    longest: Duration,
    work: impl AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let late = move || anyhow!("not done after {longest:?}");
    aside(longest + MARGIN, move || runtime.block_on(async { timeout(longest, work()).await.map_err(|_elapsed| late())? }))
}

/// Collects a failure's traces, and says where they are.
fn collect(work: impl FnOnce() -> String + Send + 'static) {
    match aside(COLLECTING, move || Ok(work())) {
        Ok(directory) => println!("logs: {directory}"),
        Err(error) => println!("the logs are incomplete: {error:#}"),
    }
}

/// Does work on a thread of its own: it may panic, and it is left behind where it gets stuck.
fn aside<T: Send + 'static>(within: Duration, work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    let (done, ended) = channel();
    thread::spawn(move || done.send(work()));
    match ended.recv_timeout(within) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => bail!("it panicked; the message is above"),
        Err(RecvTimeoutError::Timeout) => bail!("stuck: {within:?} are over, and no timeout in it took effect"),
    }
}
