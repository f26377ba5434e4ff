//! Three real Kubernetes nodes on this machine, and what Nodegate has to do on them. Needs root; `make e2e` fetches everything else.
//!
//! `cargo test --test cluster -- [--nodes 1|3] [--long] [--list] [--keep] [NAME...]`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(unreachable_pub, reason = "`pub` marks what a module of the rig is for, as in the crate itself")]
#![allow(clippy::format_push_string, clippy::format_collect, reason = "commands and documents are put together once, and are to be read")]

mod artifacts;
mod backup;
mod cluster;
mod control_plane;
mod credentials;
mod daemon;
mod dns;
mod document;
mod following;
mod http;
mod http2;
mod https;
mod images;
mod install;
mod load;
mod namespace;
mod network;
mod node;
mod power;
mod run;
mod sample;
mod sandbox;
mod scenarios;
mod standby;
mod tools;
mod wait;
mod websockets;

#[path = "../support/accepts_any.rs"]
mod accepts_any;
#[path = "../support/issued.rs"]
mod issued;

use std::{iter, process::ExitCode};

use clap::{
    Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};

use scenarios::{ALL, Scenario};

/// Runs scenarios, all or those named, one after another on one cluster.
#[derive(Parser)]
pub struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = PossibleValuesParser::new(["1", "3"]).try_map(|number| number.parse::<u8>()))]
    nodes: u8,
    /// Runs the long forms, of those scenarios that have one: `make soak`.
    #[arg(long)]
    long: bool,
    /// Prints the scenarios' names, and runs none.
    #[arg(long)]
    list: bool,
    /// Leaves the cluster up after the last scenario, or the first that fails, until Ctrl-C, and says how to look inside.
    #[arg(long)]
    keep: bool,
    /// The scenarios to run.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    // The two inner ones of this program's three processes: see `sandbox`.
    match arguments.nth(1).as_deref() {
        Some(sandbox::INIT) => return sandbox::init(arguments),
        Some(sandbox::INSIDE) => return run::run(&Arguments::parse_from(iter::once("cluster".to_owned()).chain(arguments))),
        _ => {}
    }
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in available(&arguments) {
            println!("{}", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    if let Err(unknown) = chosen(&arguments) {
        eprintln!("there is no scenario {unknown}{}; --list names them", if arguments.long { " in a long form" } else { "" });
        return ExitCode::from(2);
    }
    sandbox::enter()
}

/// The scenarios that were asked for, all where none is named; or a name that there is none of.
pub fn chosen(arguments: &Arguments) -> Result<Vec<&'static Scenario>, &str> {
    if arguments.names.is_empty() {
        return Ok(available(arguments).collect());
    }
    let of = |name: &String| available(arguments).find(|scenario| scenario.name == name);
    arguments.names.iter().map(|name| of(name).ok_or(name.as_str())).collect()
}

/// Those there are in the form that was asked for.
fn available(arguments: &Arguments) -> impl Iterator<Item = &'static Scenario> {
    let long = arguments.long;
    ALL.iter().filter(move |scenario| !long || scenario.long.is_some())
}
