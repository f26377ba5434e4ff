//! Reading the arguments, and saying in one line what is wrong with them.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, error::ErrorKind, parser::ValueSource};

use super::args::{Arguments, Command, WhereArgs};

/// What a command line comes to.
#[derive(Debug)]
pub enum Invocation {
    /// Something to do.
    Run(Command),
    /// `--help` or `--version`: a text for standard output.
    Print(String),
}

/// Reads the arguments (the first is the program's name) and the environment. The error is one line, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    let matches = match Arguments::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Print(error.render().to_string()));
        }
        Err(error) => return Err(usage_line(&error)),
    };
    let Arguments { mut command } = Arguments::from_arg_matches(&matches).map_err(|error| usage_line(&error))?;
    let written = |id| {
        let source = matches.subcommand().and_then(|(_, matches)| matches.value_source(id));
        source == Some(ValueSource::CommandLine)
    };
    match &mut command {
        Command::Check(check) => match (written("manifests"), check.cluster, check.manifests.is_empty()) {
            (true, true, _) => return Err("--manifests and --cluster can't be used together".into()),
            (_, false, true) => return Err("check needs --manifests PATH or --cluster".into()),
            (false, true, _) => check.manifests.clear(),
            (_, false, false) => {}
        },
        Command::Routes(routes) => choose(&mut routes.source, written("manifests"), written("admin"), "routes")?,
        Command::Explain(explain) => choose(&mut explain.source, written("manifests"), written("admin"), "explain")?,
        Command::Wait(_) | Command::Serve(_) | Command::Ready(_) | Command::Prepare(_) | Command::Version => {}
    }
    Ok(Invocation::Run(command))
}

/// Leaves one place to look at. What is written wins over the environment, which in a pod holds what `serve` was given; where both come from
/// there, the running proxy wins, since it is the truth.
fn choose(source: &mut WhereArgs, manifests_written: bool, admin_written: bool, command: &str) -> Result<(), String> {
    match (manifests_written, admin_written) {
        (true, true) => return Err("--manifests and --admin can't be used together".into()),
        (true, false) => source.admin = None,
        (false, true) => source.manifests.clear(),
        (false, false) if source.admin.is_some() => source.manifests.clear(),
        (false, false) => {}
    }
    if source.manifests.is_empty() && source.admin.is_none() {
        return Err(format!("{command} needs --manifests PATH or --admin URL"));
    }
    Ok(())
}

/// clap's message without its usage section, on one line.
fn usage_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["Usage:", "For more information"].iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let line = one_line(text.get(..end).unwrap_or(text));
    if error.kind() == ErrorKind::MissingSubcommand { format!("{line}; see nodegate --help") } else { line }
}

/// Any text on one line: what is left of its lines, with `; ` between them unless the line before announces the next.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push_str(if line.ends_with([':', ',', ';']) { " " } else { "; " });
        }
        line.push_str(part);
    }
    line
}

#[cfg(test)]
mod tests;
