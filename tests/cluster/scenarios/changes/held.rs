//! Requests that pods take their time for, over connections that have carried one before.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use anyhow::{Context, anyhow, ensure};
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
const FIRST: &str = "/slow?ms=300";
const SECOND: &str = "/slow?ms=4000";

/// They, on their way.
#[derive(Debug)]
pub struct Held {
    second: Receiver<()>,
    answers: JoinHandle<anyhow::Result<Vec<anyhow::Result<Answer>>>>,
}

impl Held {
    pub fn begin(site: &Site<'_>) -> Self {
        let (told, second) = channel();
        let (entrance, targets) = (site.cluster.internet.entrance(), site.targets.clone());
        let clients = (0..HELD).map(move |number| Client::new(targets[number % targets.len()])).collect();
        Self { second, answers: thread::spawn(move || entrance.within_async(async move || send(clients, told).await)) }
    }

    /// Waits until pods have the second ones.
    pub async fn is_under_way(&self, site: &Site<'_>) -> anyhow::Result<()> {
        self.second.recv_timeout(PATIENCE).context("the first requests failed")?;
        eventually("requests are under way", PATIENCE, async || {
            let active: Vec<u64> =
                site.cluster.nodes.iter().map(|node| install::metric(node, "nodegate_active_requests")).collect::<anyhow::Result<_>>()?;
            ensure!(active.iter().sum::<u64>() >= HELD as u64, "{active:?} of {HELD}");
            Ok(())
        })
        .await
    }

    /// Waits for their ends. How many of the second ones failed: each of these with 502.
    pub fn lost(self) -> anyhow::Result<usize> {
        let answers = self.answers.join().map_err(|_panic| anyhow!("the clients panicked"))??;
        let answers = answers.into_iter().collect::<anyhow::Result<Vec<_>>>().context("a request that was under way")?;
        let other = answers.iter().find(|answer| ![200, 502].contains(&answer.status));
        ensure!(other.is_none(), "a request that was under way: {}", other.map(ToString::to_string).unwrap_or_default());
        Ok(answers.iter().filter(|answer| answer.status != 200).count())
    }
}

async fn send(mut clients: Vec<Client>, second: Sender<()>) -> anyhow::Result<Vec<anyhow::Result<Answer>>> {
    for answer in all(&mut clients, FIRST).await {
        let answer = answer?;
        ensure!(answer.status == 200, "{answer}");
    }
    // Nobody waits for it where the scenario has failed.
    _ = second.send(());
    Ok(all(&mut clients, SECOND).await)
}

async fn all(clients: &mut [Client], path: &str) -> Vec<anyhow::Result<Answer>> {
    join_all(clients.iter_mut().map(|client| client.get(HOST, path, &[]))).await
}
