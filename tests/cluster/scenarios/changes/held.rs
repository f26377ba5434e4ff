//! Requests that pods take their time for, over connections that have carried one before.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use futures_util::future::join_all;

use super::site::{HOST, Site};
use crate::{
    http::{Answer, Client},
    install,
    wait::{PATIENCE, eventually},
};

/// So many at once, over all nodes: that none of them is at one of three pods happens once in 16,000 times.
pub const HELD: usize = 24;
/// What pods take for a first one, so that each has a connection of its own, and for the second: longer than anybody needs to see them and to kill one.
const FIRST: Duration = Duration::from_millis(300);
const SECOND: Duration = Duration::from_secs(4);

/// They, on their way.
#[derive(Debug)]
pub struct Held {
    second: Receiver<Instant>,
    answers: JoinHandle<anyhow::Result<Vec<Ended>>>,
}

/// An answer, and how long it took.
type Ended = (anyhow::Result<Answer>, Duration);

/// What became of the second ones.
#[derive(Debug, Default)]
pub struct Fates {
    /// Answered with 502.
    pub lost: usize,
    /// Answered by a pod that can't have begun before one was killed.
    pub sent_again: usize,
}

impl Held {
    pub fn begin(site: &Site<'_>) -> Self {
        let (told, second) = channel();
        let (entrance, targets) = (site.cluster.internet.entrance(), site.targets.clone());
        let clients = (0..HELD).map(move |number| Client::new(targets[number % targets.len()])).collect();
        Self { second, answers: thread::spawn(move || entrance.within_async(async move || send(clients, told).await)) }
    }

    /// Waits until pods have the second ones, kills one, and waits for all answers.
    pub async fn through(self, site: &Site<'_>, kill: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<Fates> {
        let began = self.second.recv_timeout(PATIENCE).context("the first requests failed")?;
        eventually("requests are under way", PATIENCE, async || {
            let active = site.cluster.nodes.iter().map(|node| install::metric(node, "nodegate_active_requests"));
            let active: u64 = active.sum::<anyhow::Result<_>>()?;
            ensure!(active >= HELD as u64, "{active} of {HELD}");
            Ok(())
        })
        .await?;
        let killed = began.elapsed();
        kill().await?;
        let mut fates = Fates::default();
        for (answer, took) in self.answers.join().map_err(|_panic| anyhow!("the clients panicked"))?? {
            let answer = answer.context("a request that was under way")?;
            match answer.status {
                200 if took >= killed + SECOND => fates.sent_again += 1,
                200 => {}
                502 => fates.lost += 1,
                _ => bail!("a request that was under way: {answer}"),
            }
        }
        Ok(fates)
    }
}

async fn send(mut clients: Vec<Client>, second: Sender<Instant>) -> anyhow::Result<Vec<Ended>> {
    for (answer, _) in all(&mut clients, FIRST).await {
        let answer = answer?;
        ensure!(answer.status == 200, "{answer}");
    }
    // Nobody waits for it where the scenario has failed.
    _ = second.send(Instant::now());
    Ok(all(&mut clients, SECOND).await)
}

/// Each client's request that a pod is to take so long for.
async fn all(clients: &mut [Client], takes: Duration) -> Vec<Ended> {
    let path = format!("/slow?ms={}", takes.as_millis());
    join_all(clients.iter_mut().map(async |client| {
        let began = Instant::now();
        (client.get(HOST, &path, &[]).await, began.elapsed())
    }))
    .await
}
