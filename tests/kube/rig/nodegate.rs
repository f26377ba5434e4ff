//! The Nodegate binary under test, `serve` against a cluster, on ports of the operating system's choice.

use std::{ffi::OsStr, net::SocketAddr, path::Path};

use serde_json::Value;

use super::{Answer, Clock, directory::Directory, eventually, get, process::Process};

/// A running Nodegate. Fields are dropped in this order: the process, then its log.
#[derive(Debug)]
pub struct Nodegate {
    process: Process,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    _directory: Directory,
}

impl Nodegate {
    /// Starts one and waits until it listens, which says nothing about being ready.
    pub async fn start(kubeconfig: &Path) -> Self {
        Self::start_with(kubeconfig, &[]).await
    }

    /// As [`Nodegate::start`], with more flags.
    pub async fn start_with(kubeconfig: &Path, flags: &[&str]) -> Self {
        Self::start_by(kubeconfig, flags, None).await
    }

    /// As [`Nodegate::start_with`], with a wall clock of its own.
    pub async fn start_by(kubeconfig: &Path, flags: &[&str], clock: Option<&Clock>) -> Self {
        let directory = Directory::create("nodegate");
        let clock = clock.map(Clock::environment);
        let clock = clock.iter().flatten().map(|(name, value)| (*name, value.as_os_str()));
        let environment: Vec<_> =
            [("KUBECONFIG", kubeconfig.as_os_str()), ("NO_COLOR", OsStr::new("1"))].into_iter().chain(clock).collect();
        let own = |flag: &&[&str; 2]| !flags.contains(&flag[0]);
        let defaults = [["--http", "127.0.0.1:0"], ["--admin", "127.0.0.1:0"]];
        let arguments = ["serve"].iter().chain(defaults.iter().filter(own).flatten()).chain(flags);
        let mut process = Process::start("nodegate", Path::new(env!("CARGO_BIN_EXE_nodegate")), arguments, &environment, directory.path());
        let (http, admin) = eventually("Nodegate listens", async || {
            process.assert_runs();
            let log = process.log();
            let both = listening(&log, "http").zip(listening(&log, "admin"));
            both.ok_or("not both addresses are in the log")
        })
        .await;
        Self { process, http, admin, _directory: directory }
    }

    /// Starts one that stands by, at these addresses and with these flags, and with no way to an API server. Waits until it does so.
    pub async fn stand_by(http: SocketAddr, admin: SocketAddr, flags: &[&str]) -> Self {
        let directory = Directory::create("standby");
        let addresses = [http.to_string(), admin.to_string()];
        let arguments = ["serve", "--standby", "--http", &addresses[0], "--admin", &addresses[1]].into_iter().chain(flags.iter().copied());
        let mut process = Process::start("nodegate", Path::new(env!("CARGO_BIN_EXE_nodegate")), arguments, &[], directory.path());
        eventually("it stands by", async || {
            process.assert_runs();
            if process.log().contains("standing by") { Ok(()) } else { Err("it doesn't say so") }
        })
        .await;
        Self { process, http, admin, _directory: directory }
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&mut self) {
        eventually("Nodegate is ready", async || {
            self.process.assert_runs();
            self.readyz().await.map_or_else(Err, |answer| if answer.status == 200 { Ok(()) } else { Err(answer.to_string()) })
        })
        .await;
    }

    /// Asks it to end, as a kubelet does first.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until it has ended well.
    pub async fn ended(&mut self) {
        eventually("Nodegate ends", async || match self.process.ended() {
            Some(status) if status.success() => Ok(()),
            Some(status) => panic!("{status}:\n{}", self.process.log()),
            None => Err("it runs"),
        })
        .await;
    }

    /// A sample of its metrics, by name and labels as they are written.
    pub async fn metric(&self, name: &str) -> Result<u64, String> {
        let page = get(self.admin, &self.admin.to_string(), "/metrics").await?.body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.ok_or_else(|| format!("no {name}"))
    }

    /// What it has logged so far: one JSON object a line.
    pub fn log(&self) -> Vec<Value> {
        self.process.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What `/readyz` says now.
    pub async fn readyz(&self) -> Result<Answer, String> {
        get(self.admin, &self.admin.to_string(), "/readyz").await
    }

    /// Waits until a request for `host` meets the backend of that name.
    pub async fn serves(&self, host: &str, backend: &str) {
        self.answers(host, &format!("the backend {backend}"), |answer| answer.status == 200 && answer.body == backend).await;
    }

    /// Waits until a request for `host` is refused with that status and reason.
    pub async fn refuses(&self, host: &str, status: u16, reason: &str) {
        self.answers(host, &format!("{status} {reason}"), |answer| answer.status == status && answer.reason.as_deref() == Some(reason))
            .await;
    }

    async fn answers(&self, host: &str, expected: &str, fits: impl Fn(&Answer) -> bool) {
        eventually(&format!("{host} answers {expected}"), async || {
            let answer = get(self.http, host, "/").await?;
            if fits(&answer) { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }
}

/// The address of that listener, from the log line that tells it.
fn listening(log: &str, listener: &str) -> Option<SocketAddr> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = lines.filter(|line| line["message"] == "listening" && line["listener"] == listener);
    ours.find_map(|line| line["address"].as_str()?.parse().ok())
}
