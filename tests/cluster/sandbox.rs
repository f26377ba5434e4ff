//! Keeps everything that a run starts inside namespaces of its own, so that the kernel takes it all away when the run ends, however it ends.
//! Three processes of this program: the outer one waits and sweeps, `init` is process 1 inside, `inside` is its child and does the work.

use std::{
    env::Args,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitOptions, wait};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::images;

/// First argument of process 1 inside.
pub const INIT: &str = "sandbox-init";
/// First argument of its child.
pub const INSIDE: &str = "sandbox-inside";

/// Where the kernel shows control groups: one hierarchy, or a directory for each controller.
pub const CGROUPS: &str = "/sys/fs/cgroup";
/// What the names of our control groups begin with; the owner's process id and start time follow.
const PREFIX: &str = "nodegate-e2e-";
/// Set for the processes inside.
const NAME: &str = "NODEGATE_E2E_SANDBOX";
const OUTER: &str = "NODEGATE_E2E_OUTER";
/// How long the kernel may take to empty a run's control groups, whose processes it has killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The outer process: runs this program again inside, waits for it, and removes what the kernel doesn't.
pub fn enter() -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("the cluster tests make namespaces and mounts: run them as root");
        return ExitCode::from(2);
    }
    sweep();
    // Inside there is no network to fetch anything from.
    let built = match images::build() {
        Ok(built) => built,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let pid = std::process::id();
    let started = start_time(pid).expect("this process in /proc");
    let name = format!("{PREFIX}{pid}-{started}");
    let program = std::env::current_exe().expect("the path of this program");
    // iptables and the like are programs of root's; the shell that became root with `su` doesn't have them.
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned()) + ":/usr/sbin:/sbin";
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(program)
        .arg(INIT)
        .args(std::env::args_os().skip(1))
        .envs(built)
        .env("PATH", path)
        .env(NAME, &name)
        .env(OUTER, pid.to_string())
        .spawn()
        .expect("setpriv and unshare (package util-linux)");
    let code = wait_for(child);
    remove_groups(&name);
    code
}

/// Process 1: starts the real one, and buries the orphans that the kernel gives it.
#[expect(clippy::zombie_processes, reason = "it waits for every child there is, and this one is among them")]
pub fn init(arguments: Args) -> ExitCode {
    let program = std::env::current_exe().expect("the path of this program");
    let worker = Command::new(program).arg(INSIDE).args(arguments).spawn().expect("this program, once more");
    let worker = Pid::from_child(&worker);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == worker => {
                return ExitCode::from(status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
            }
            Ok(_orphan) => {}
            Err(error) => assert!(error == rustix::io::Errno::INTR, "process 1 of the sandbox has no child: {error}"),
        }
    }
}

/// What the control groups of this run are called.
pub fn name() -> String {
    std::env::var(NAME).expect("only called inside")
}

/// The process id of the outer process, as the machine counts.
pub fn outer_pid() -> String {
    std::env::var(OUTER).expect("only called inside")
}

/// The roots of all hierarchies: the controllers' each, and `unified`, the second version beside the first.
pub fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if is_unified() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).expect("control groups").flatten().map(|entry| entry.path());
    entries.filter(|path| path.join("cgroup.procs").exists() && !path.is_symlink()).collect()
}

/// Whether this machine has the second version of control groups, and it alone.
pub fn is_unified() -> bool {
    Path::new(CGROUPS).join("cgroup.controllers").exists()
}

/// Waits for the end, through Ctrl-C: the inner process decides what that means. Asked to terminate, ends it at once.
fn wait_for(mut child: Child) -> ExitCode {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let status = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
        let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
        let mut ended = signal(SignalKind::child()).expect("a signal handler");
        loop {
            if let Some(status) = child.try_wait().expect("the state of our own child") {
                return status;
            }
            tokio::select! {
                _ = ended.recv() => {}
                _ = interrupt.recv() => {}
                _ = terminate.recv() => child.kill().expect("our own child"),
            }
        }
    });
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Removes the control groups of runs that were killed: those whose owner is no longer there.
fn sweep() {
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if owner(&name).is_some_and(|(pid, started)| start_time(pid).as_deref() != Some(started)) {
                eprintln!("removing what a run that was killed left behind: {}", entry.path().display());
                remove_group(&entry.path(), Instant::now() + PATIENCE);
            }
        }
    }
}

/// Process id and start time out of a control group's name, if it is one of ours.
fn owner(name: &str) -> Option<(u32, &str)> {
    let (pid, started) = name.strip_prefix(PREFIX)?.split_once('-')?;
    Some((pid.parse().ok()?, started))
}

/// When a process started, in clock ticks since boot: with its id, this names it for ever. None if there is no such process.
pub fn start_time(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold spaces. Field 22 is the 20th after it.
    status.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// Removes the control groups below one of this run's, whose processes have ended.
pub fn empty_groups(node: &str) {
    let deadline = Instant::now() + PATIENCE;
    for hierarchy in hierarchies() {
        remove_groups_below(&hierarchy.join(name()).join(node), deadline);
    }
}

fn remove_groups(name: &str) {
    let deadline = Instant::now() + PATIENCE;
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        if group.exists() {
            remove_group(&group, deadline);
        }
    }
}

/// Removes a control group and those below it. Its last processes may still be dying.
fn remove_group(group: &Path, deadline: Instant) {
    remove_groups_below(group, deadline);
    while let Err(error) = fs::remove_dir(group) {
        if error.kind() == std::io::ErrorKind::NotFound {
            return;
        }
        if Instant::now() > deadline {
            eprintln!("can't remove {}: {error}", group.display());
            return;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn remove_groups_below(group: &Path, deadline: Instant) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path(), deadline);
        }
    }
}
