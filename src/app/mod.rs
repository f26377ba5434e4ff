//! Wiring only: binds everything, starts the threads, drains. The only place that sees every part.

mod commands;
mod handover;
mod parts;
mod prepare;
mod serve;
mod standby;
mod wait;
mod writers;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use crate::config::{Invocation, ServeSettings, args::Command};

/// Does what the command line asks. The error is for one line on standard error and exit code 2.
pub fn run(invocation: Invocation) -> anyhow::Result<ExitCode> {
    match invocation {
        Invocation::Print(text) => print(&text),
        Invocation::Run(Command::Version) => print(&format!("nodegate {}\n", env!("CARGO_PKG_VERSION"))),
        Invocation::Run(Command::Serve(args)) => serve::serve(ServeSettings::try_from(*args)?),
        Invocation::Run(Command::Check(args)) => runtime()?.block_on(commands::check(args)),
        Invocation::Run(Command::Wait(args)) => runtime()?.block_on(wait::wait(args)),
        Invocation::Run(Command::Ready(args)) => runtime()?.block_on(commands::ready(args)),
        Invocation::Run(Command::Prepare(args)) => prepare::prepare(&args),
        Invocation::Run(Command::Routes(args)) => runtime()?.block_on(commands::routes(args)),
        Invocation::Run(Command::Explain(args)) => runtime()?.block_on(commands::explain(*args)),
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("can't start the runtime")
}

/// Prints to standard output. A reader that has seen enough (`nodegate routes | head`) is no error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("can't write to standard output"),
        _ => Ok(ExitCode::SUCCESS),
    }
}
