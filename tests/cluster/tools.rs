//! Programs that run to their end: they succeed, or the run fails with what they said.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Then a program is killed. Longer than any that has a time limit of its own: that one says more.
const LONGEST: Duration = Duration::from_mins(4);

/// Runs a command to its end. Its standard output as text; panics with everything it said if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    run_with(command, "")
}

/// As [`run`], with something on its standard input.
#[track_caller]
pub fn run_with(command: &mut Command, input: &str) -> String {
    let output = feed(command, input);
    checked(command, &output)
}

/// Runs a command to its end, or for [`LONGEST`], with something on its standard input.
#[track_caller]
pub fn feed(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let pid = Pid::from_child(&child);
    let (running, ended) = channel::<()>();
    thread::scope(|scope| {
        // It may end before it has read everything; its status tells then.
        scope.spawn(move || _ = stdin.write_all(input.as_bytes()));
        scope.spawn(move || {
            if ended.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{command:?}: not done after {LONGEST:?}, and killed");
                _ = kill_process(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output().expect("its output");
        drop(running);
        output
    })
}

#[track_caller]
fn checked(command: &Command, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?} failed ({}): {}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
