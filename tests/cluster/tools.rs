//! Programs that run to their end: they succeed, or the run fails with what they said.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    thread,
};

/// Runs a command to its end. Its standard output as text; panics with everything it said if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    checked(command, &output.unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// As [`run`], with something on its standard input.
#[track_caller]
pub fn run_with(command: &mut Command, input: &str) -> String {
    let output = feed(command, input);
    checked(command, &output)
}

/// Runs a command to its end with something on its standard input.
#[track_caller]
pub fn feed(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        // It may end before it has read everything; its status tells then.
        scope.spawn(move || _ = stdin.write_all(input.as_bytes()));
        child.wait_with_output().expect("its output")
    })
}

#[track_caller]
fn checked(command: &Command, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?} failed ({}): {}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
