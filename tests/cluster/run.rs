//! Runs scenarios one after another on one cluster, inside the sandbox.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, time::timeout};

use crate::{Arguments, artifacts, chosen, cluster::Cluster, scenarios::Scenario};

/// No scenario may take longer.
const LONGEST: Duration = Duration::from_mins(5);

/// Brings the cluster up and runs the scenarios that were asked for. Success if all of them pass.
pub fn run(arguments: &Arguments) -> ExitCode {
    let scenarios = chosen(&arguments.names).expect("checked before");
    let runtime = Runtime::new().expect("a runtime");
    let cluster = match runtime.block_on(Cluster::up(arguments.nodes)) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("the cluster did not come up: {error:#}");
            artifacts::collect_logs("up");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed, began) = (0, Vec::new(), Instant::now());
    for scenario in scenarios {
        if cluster.nodes.len() < scenario.nodes {
            println!("left out {:<22} it needs {} nodes", scenario.name, scenario.nodes);
            continue;
        }
        let began = Instant::now();
        let result = attempt(&runtime, &cluster, scenario);
        let took = began.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                println!("ok      {:<24} {took:6.1} s", scenario.name);
                passed += 1;
            }
            Err(error) => {
                println!("FAILED  {:<24} {took:6.1} s\n{error:#}", scenario.name);
                println!("logs: {}", artifacts::collect(&cluster, scenario.name).display());
                failed.push(scenario.name);
                if arguments.keep {
                    break;
                }
            }
        }
    }
    println!(
        "{passed} passed, {} failed{}{} in {:.0} s",
        failed.len(),
        if failed.is_empty() { "" } else { ": " },
        failed.join(", "),
        began.elapsed().as_secs_f32()
    );
    if arguments.keep {
        println!("The cluster stays up until Ctrl-C. To look inside:\n{}", cluster.look_inside());
        _ = runtime.block_on(tokio::signal::ctrl_c());
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One scenario, on a thread of its own: one that panics fails alone.
fn attempt(runtime: &Runtime, cluster: &Cluster, scenario: &Scenario) -> anyhow::Result<()> {
    let work = || runtime.block_on(async { timeout(LONGEST, (scenario.run)(cluster)).await });
    let outcome = thread::scope(|scope| scope.spawn(work).join());
    match outcome {
        Ok(Ok(result)) => result,
        Ok(Err(_elapsed)) => anyhow::bail!("not done after {LONGEST:?}"),
        Err(_panic) => anyhow::bail!("it panicked; the message is above"),
    }
}
