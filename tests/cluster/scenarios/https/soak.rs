//! Call after call on one channel of gRPC's own client, which is told by GOAWAY to go elsewhere when its process at the node hands over.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, bail, ensure};

use super::grpc::{Call, PLAIN};
use crate::{
    cluster::Cluster,
    wait::{PATIENCE, eventually},
};

/// Calls without end, one every 50 ms, with some packets to each message; none counts as failed for being slow, which a busy machine's are.
const ENDLESS: [&str; 6] = [
    "--soak_iterations=1000000",
    "--soak_overall_timeout_seconds=3600",
    "--soak_min_time_ms_between_rpcs=50",
    "--soak_request_size=10000",
    "--soak_response_size=10000",
    "--soak_per_iteration_max_acceptable_latency_ms=60000",
];

/// The client at one node, until it is dropped.
#[derive(Debug)]
pub struct Soak {
    door: SocketAddr,
    child: Child,
    reader: Option<JoinHandle<()>>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    succeeded: AtomicUsize,
    /// Whatever else the client said.
    other: Mutex<Vec<String>>,
}

impl Soak {
    pub fn start(cluster: &Cluster, door: SocketAddr) -> anyhow::Result<Self> {
        let mut command = Call::new(cluster, door, PLAIN, "rpc_soak", &ENDLESS).command;
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("gRPC's client")?;
        let said = BufReader::new(child.stderr.take().context("a pipe")?);
        let tally = Arc::<Tally>::default();
        let account = Arc::clone(&tally);
        let reader = thread::spawn(move || said.lines().map_while(Result::ok).for_each(|line| account.note(line)));
        Ok(Self { door, child, reader: Some(reader), tally })
    }

    /// Waits until so many more calls have succeeded.
    pub async fn succeeds(&self, more: usize) -> anyhow::Result<()> {
        let wanted = self.tally.succeeded.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} more calls succeed on a channel to {}", self.door), PATIENCE, async || {
            let succeeded = self.tally.succeeded.load(Ordering::Relaxed);
            if succeeded < wanted { Err(format!("{} to go; it said:{}", wanted - succeeded, self.tally.shown())) } else { Ok(()) }
        })
        .await
    }

    /// Ends it; how many calls have succeeded, or an error if any hasn't.
    pub fn stop(mut self) -> anyhow::Result<usize> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the channel to {}: the client ended by itself ({status}), and said:{}", self.door, self.tally.shown());
        }
        self.end();
        let failed = self.tally.other().len();
        ensure!(failed == 0, "the channel to {}: {failed} calls failed:{}", self.door, self.tally.shown());
        Ok(self.tally.succeeded.load(Ordering::Relaxed))
    }

    fn end(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            _ = reader.join();
        }
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        self.end();
    }
}

impl Tally {
    fn note(&self, line: String) {
        if line.ends_with(" succeeded") {
            self.succeeded.fetch_add(1, Ordering::Relaxed);
        } else {
            self.other().push(line);
        }
    }

    /// The first lines of what else it said.
    fn shown(&self) -> String {
        self.other().iter().take(5).map(|line| format!("\n  {line}")).collect()
    }

    fn other(&self) -> MutexGuard<'_, Vec<String>> {
        self.other.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
