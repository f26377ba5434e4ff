//! A small steady load on one host, which notes every answer that isn't the expected one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{Answer, Client, get};

/// Between two requests: 50 a second.
const INTERVAL: Duration = Duration::from_millis(20);

/// A running load; every other request has a connection of its own, the rest share one that is kept.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Tally>,
}

/// What a load has met.
#[derive(Debug, Default)]
struct Tally {
    requests: u32,
    failures: Vec<String>,
}

impl Load {
    /// Begins to ask `address` for `host`; right is a 200 from the backend of that name.
    pub fn begin(address: SocketAddr, host: &'static str, backend: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(run(address, host, backend, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Ends it. Returns the number of requests; fails the test if one of them failed.
    pub async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let tally = self.task.await.expect("the load");
        let Tally { requests, failures } = tally;
        assert!(failures.is_empty(), "{} of {requests} requests failed, the first: {}", failures.len(), failures[0]);
        requests
    }
}

async fn run(address: SocketAddr, host: &str, backend: &str, stop: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    let mut kept = Client::new(address);
    let mut ticks = interval(INTERVAL);
    // After a slow answer the load goes on at its pace, without a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let answer = if tally.requests % 2 == 0 { kept.get(host, "/").await } else { get(address, host, "/").await };
        tally.requests += 1;
        let right = |answer: &Answer| answer.status == 200 && answer.body == backend;
        match answer {
            Ok(answer) if right(&answer) => {}
            Ok(answer) => tally.failures.push(answer.to_string()),
            Err(error) => tally.failures.push(error),
        }
    }
    tally
}
