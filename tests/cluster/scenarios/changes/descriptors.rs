//! A node's Nodegate may open no more files: it serves those that it has, lets the others wait, says so, and goes on by itself.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context, bail, ensure};

use super::{
    super::table::Row,
    connection::{Connection, Kept},
    site::{self, HOST, Site},
};
use crate::{
    install,
    load::Load,
    node::Node,
    scenarios::lifecycle::process::{Process, USER},
    tools,
    wait::{PATIENCE, eventually},
};

/// How many more files the process may open.
const ROOM: usize = 40;
/// Files that the process may have closed meanwhile, such as connections to pods that it had kept for a busier time.
const CLOSED: usize = 10;
/// How many clients come, and stay: more than there is room for.
const CLIENTS: usize = 2 * ROOM;
/// Clients that were there before, and how many requests of theirs are seen at each time.
const KEPT: usize = 6;
const ASKED: u32 = 120;
/// Requests a second of a load on some of the nodes, and how many there are to all of them afterwards.
const RATE: u32 = 30;
const AFTER: u32 = 120;
/// What the log says once.
const SAID: &str = "can't accept connections";

/// On the second node.
pub async fn run_out(site: &Site<'_>) -> anyhow::Result<Row> {
    let limit = Limit::of(&Process::on_every_node(site.cluster)?[1])?;
    let others = Load::start(&site.cluster.internet, &[site.targets[0], site.targets[2]], HOST, RATE);
    let kept = Kept::begin(site, site.targets[1], KEPT)?;
    kept.ask(ASKED).await?;
    limit.leave(ROOM)?;
    let seen = clients_come(site, &kept).await?;
    // With the same limit: everybody has gone.
    let load = site.load(RATE);
    load.ended(AFTER).await?;
    let (after, kept, others) = (load.stop(), kept.end()?, others.stop());
    limit.lift();
    after.all_succeeded().context("after everybody had gone")?;
    others.all_succeeded().context("at the other nodes")?;
    let Seen { inside, waited } = seen;
    Ok(Row {
        event: "the limit of open files of a node's Nodegate lowered, and reached",
        seen: "through that node, whoever is connected is served as ever, and others wait, or get 503, until somebody goes; the log says so; through the other nodes, nothing".to_owned(),
        measured: format!(
            "room for {ROOM} files, and {CLIENTS} clients came: {} were served, {} got 503, and {} waited, of whom {} were served when others had gone, and {} got 503; 0 of \
             {kept} requests of clients that were there before failed, 0 of {} through the other nodes, and 0 of {} through all of them afterwards",
            inside.served,
            inside.refused,
            waited.served + waited.refused,
            waited.served,
            waited.refused,
            others.sent,
            after.sent
        ),
    })
}

/// What became of the clients that came.
struct Seen {
    inside: Answers,
    waited: Answers,
}

#[derive(Default)]
struct Answers {
    served: usize,
    /// Their connection was accepted, and none to a pod could be opened.
    refused: usize,
}

impl Answers {
    /// Takes those out that have an answer; their connections are still open.
    fn take(&mut self, clients: &mut Vec<Connection>) -> anyhow::Result<Vec<Connection>> {
        let mut answered = Vec::new();
        for client in std::mem::take(clients) {
            match client.answer()? {
                None => clients.push(client),
                Some(200) => {
                    self.served += 1;
                    answered.push(client);
                }
                Some(503) => {
                    self.refused += 1;
                    answered.push(client);
                }
                Some(other) => bail!("a client got {other}"),
            }
        }
        Ok(answered)
    }
}

/// More than there is room for: those who get in stay, then go, and so does each of the others once it has its answer.
async fn clients_come(site: &Site<'_>, kept: &Kept) -> anyhow::Result<Seen> {
    let (node, mut seen) = (site.cluster.node(2), Seen { inside: Answers::default(), waited: Answers::default() });
    let before = site::log(node)?.matches(SAID).count();
    let mut clients = Connection::open(site, site.targets[1], CLIENTS)?;
    says_so(node, before).await?;
    no_more_get_in(&clients).await?;
    kept.ask(ASKED).await?;
    let inside = seen.inside.take(&mut clients)?;
    ensure!(!inside.is_empty() && inside.len() <= ROOM + CLOSED, "{} clients were answered, and there was room for {ROOM}", inside.len());
    drop(inside);
    eventually("those who waited are answered", PATIENCE, async || {
        seen.waited.take(&mut clients)?;
        ensure!(clients.is_empty(), "{} wait", clients.len());
        Ok(())
    })
    .await?;
    ensure!(seen.waited.served > 0, "none of those who waited was served");
    let pauses = install::metric(node, "nodegate_accept_pauses_total")?;
    ensure!(pauses > 0, "{}: no pause is counted", node.name);
    Ok(seen)
}

async fn says_so(node: &Node, before: usize) -> anyhow::Result<()> {
    eventually(&format!("{} says that it can't accept", node.name), PATIENCE, async || {
        let log = site::log(node)?;
        ensure!(log.matches(SAID).count() > before, "{log}");
        Ok(())
    })
    .await
}

/// Waits until as many have an answer as a moment before.
async fn no_more_get_in(clients: &[Connection]) -> anyhow::Result<()> {
    let mut last = 0;
    eventually("no more clients get in", PATIENCE, async || {
        let answered = clients.iter().filter(|client| matches!(client.answer(), Ok(Some(_)))).count();
        let before = std::mem::replace(&mut last, answered);
        ensure!(answered > 0 && answered == before, "{answered} are in, after {before}");
        Ok(())
    })
    .await
}

/// The limit of open files of a process that isn't ours.
struct Limit {
    process: String,
    was: u64,
}

impl Limit {
    fn of(process: &Process) -> anyhow::Result<Self> {
        let process = process.pid.clone();
        let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit of open files")?;
        let was = line.split_whitespace().next().context("no figure")?.parse().context("a limit that is none")?;
        Ok(Self { process, was })
    }

    /// From now on it may open so many more.
    fn leave(&self, room: usize) -> anyhow::Result<()> {
        let open: BTreeSet<u64> = fs::read_dir(format!("/proc/{}/fd", self.process))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?))
            .collect::<anyhow::Result<_>>()?;
        // The limit is one of numbers, of which the lowest that is free is taken.
        let last = (0..).filter(|number| !open.contains(number)).nth(room - 1).context("a number")?;
        self.set(last + 1);
        Ok(())
    }

    fn lift(&self) {
        self.set(self.was);
    }

    /// The ceiling stays. As the user that it runs as: that is allowed where root has not all of its capabilities, too.
    fn set(&self, limit: u64) {
        let user = [&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups", "--"].map(str::to_owned);
        tools::run(Command::new("setpriv").args(user).args(["prlimit", &format!("--pid={}", self.process), &format!("--nofile={limit}:")]));
    }
}
