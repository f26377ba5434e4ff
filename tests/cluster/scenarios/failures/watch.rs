//! A load on all nodes while a fault lasts, and what has to hold of its answers: which pods they came from, what failed, and for how long.

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use nodegate::config::limits::CONNECT_TIMEOUT;

use super::site::{HOST, Site};
use crate::{
    load::{Load, Success, Tally},
    wait::{PATIENCE, eventually},
};

/// No request takes longer that is sent while a fault lasts, whether its pod is out of reach or not: the connect timeout, and room for a busy machine.
pub const ANSWERED_WITHIN: Duration = CONNECT_TIMEOUT.saturating_add(Duration::from_millis(1500));
/// Of a hundred requests that the harmed nodes get, fewer fail. If one of three nodes answered none, it were 33.
pub const FEW: usize = 10;
/// A request that is sent this long after a fault's end doesn't fail: nothing has to be noticed first, the pods answer again at once.
pub const OVER_WITHIN: Duration = Duration::from_secs(2);

/// Before and after a fault, and while it lasts: at least so many requests.
const BEFORE: u32 = 60;
const LASTS: u32 = 240;
const AFTER: u32 = 120;

/// A node that is asked, and the one whose pod answers: their numbers.
pub type Way = (usize, usize);

/// The load, and the site that it is on.
pub struct Watch<'a> {
    pub load: Load,
    site: &'a Site<'a>,
}

/// A time, as the load counts.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub began: Duration,
    pub ended: Duration,
}

/// What clients saw of a fault.
#[derive(Debug)]
pub struct Seen {
    pub fault: Span,
    /// In the order of their ends.
    pub requests: Vec<Request>,
}

#[derive(Debug)]
pub struct Request {
    pub sent: Duration,
    pub took: Duration,
    /// The number of the node that was asked.
    pub node: usize,
    /// The number of the node whose pod answered, or what happened instead.
    pub result: Result<usize, String>,
}

impl<'a> Watch<'a> {
    /// Starts the load, and waits until each node has answered with every pod.
    pub async fn begin(site: &'a Site<'a>) -> anyhow::Result<Self> {
        let watch = Self { load: site.load(HOST), site };
        watch.load.ended(BEFORE).await?;
        watch.is_whole(Duration::ZERO).await?;
        Ok(watch)
    }

    /// Makes a fault, lets it last until `meanwhile` is done and then for some hundred requests, and ends it in any case.
    pub async fn lasts(&self, set: impl Fn(bool), meanwhile: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<Span> {
        set(true);
        let began = self.load.now();
        let during = async {
            meanwhile().await?;
            self.load.ended(LASTS).await
        }
        .await;
        let ended = self.load.now();
        set(false);
        during?;
        Ok(Span { began, ended })
    }

    /// Waits until each node has answered with every pod again, and ends the load.
    pub async fn end(self, fault: Span) -> anyhow::Result<Seen> {
        // Those that hang are still to fail, and what follows has to be well.
        self.load.ended(AFTER).await?;
        self.is_whole(fault.ended).await?;
        let tally = self.load.stop();
        Ok(Seen { fault, requests: requests(self.site, tally) })
    }

    async fn is_whole(&self, since: Duration) -> anyhow::Result<()> {
        eventually("each node has answered with every pod", PATIENCE, async || {
            let wanted = ways(self.site.targets.len());
            let found: BTreeSet<Way> = self.load.so_far(|tally| {
                tally.succeeded.iter().filter(|success| success.sent >= since).filter_map(|success| way(self.site, success)).collect()
            });
            ensure!(found == wanted, "(node, pod) without an answer: {:?}", wanted.difference(&found));
            Ok(())
        })
        .await
    }
}

impl Seen {
    /// Says that while the fault lasted, from `since` on, these ways led nowhere, so that the fault was real; and that all others did lead to their pods.
    pub fn cuts(&self, cut: &[Way], since: Duration) -> anyhow::Result<()> {
        let whole = self.requests.iter().filter(|request| request.sent >= since && request.sent + request.took <= self.fault.ended);
        let led: BTreeSet<Way> = whole.filter_map(|request| Some((request.node, *request.result.as_ref().ok()?))).collect();
        let all = ways(self.requests.iter().map(|request| request.node).max().unwrap_or_default());
        let wanted: BTreeSet<Way> = all.into_iter().filter(|way| !cut.contains(way)).collect();
        let (missing, needless): (Vec<_>, Vec<_>) = (wanted.difference(&led).collect(), led.difference(&wanted).collect());
        ensure!(missing.is_empty(), "this fault doesn't concern these (node, pod), and they gave no answer: {missing:?}");
        ensure!(needless.is_empty(), "these (node, pod) still answered: {needless:?}");
        Ok(())
    }

    /// Says that no request failed but through these nodes, each while its time lasted or was about to begin.
    pub fn fails_only_in(&self, spans: &[(usize, Span)]) -> anyhow::Result<()> {
        let meanwhile = |request: &Request, span: &Span| request.sent + request.took >= span.began && request.sent <= span.ended;
        let explained = |request: &Request| spans.iter().any(|(node, span)| request.node == *node && meanwhile(request, span));
        let other = self.requests.iter().find(|request| request.result.is_err() && !explained(request));
        ensure!(other.is_none(), "{other:?} failed, and only in {spans:?} there is a reason");
        Ok(())
    }

    /// Says that through these nodes no request failed, before, meanwhile or after.
    pub fn spares(&self, nodes: &[usize]) -> anyhow::Result<()> {
        let failed = self.failed(nodes).next();
        ensure!(failed.is_none(), "this fault doesn't concern the node: {}", self.describe(failed));
        self.is_prompt(nodes)
    }

    /// Leaves out what was on its way through these nodes when the network broke, and therefore came late. A pod may have acknowledged such a request and sent the
    /// answer into the void: its kernel sends it again when it pleases, and a proxy that gave up on a pod which just takes its time would be worse. Says that each
    /// of them was answered in the end, or still waited for when the client had enough.
    pub fn without_surprised(mut self, nodes: &[usize]) -> anyhow::Result<Self> {
        let began = self.fault.began;
        let surprised = |request: &mut Request| {
            nodes.contains(&request.node) && request.sent < began && request.sent + request.took >= began && request.took >= ANSWERED_WITHIN
        };
        let surprised: Vec<Request> = self.requests.extract_if(.., surprised).collect();
        for request in surprised {
            let what = request.result.as_ref().err().map_or("", String::as_str);
            ensure!(
                what.is_empty() || what.contains("no whole answer"),
                "sent before the fault: {}",
                self.describe(Some((&request, what)))
            );
        }
        Ok(self)
    }

    /// Says that through these nodes few requests failed, compared with those of the fault's worst time, each with one of these statuses and in time.
    pub fn harms_little(&self, nodes: &[usize], statuses: &[&str], worst: Span) -> anyhow::Result<()> {
        let other = self.failed(nodes).find(|(_, what)| !statuses.iter().any(|status| what.starts_with(status)));
        ensure!(other.is_none(), "not one of {statuses:?}: {}", self.describe(other));
        let (failed, sent) = (self.failed(nodes).count(), self.during(worst, nodes).count());
        ensure!(failed * 100 < sent * FEW, "{failed} requests failed, and {sent} were sent at the worst time: {FEW} of 100 are too many");
        self.is_prompt(nodes)
    }

    /// Says that no request that was sent so long after the fault's end failed.
    pub fn is_over_within(&self, limit: Duration) -> anyhow::Result<()> {
        let last = self.last_failure(&[1, 2, 3], self.fault.ended);
        ensure!(last < limit, "a request failed that was sent {last:?} after the fault");
        Ok(())
    }

    /// How many requests failed through these nodes, of how many that were sent meanwhile, and how long one took.
    pub fn account(&self, nodes: &[usize]) -> String {
        format!(
            "{} of {} requests failed, the slowest took {:.1} s",
            self.failed(nodes).count(),
            self.during(self.fault, nodes).count(),
            self.slowest(nodes).as_secs_f32()
        )
    }

    /// How many requests failed through this node that were sent in that time.
    pub fn failed_between(&self, node: usize, span: Span) -> usize {
        self.failed(&[node]).filter(|(request, _)| (span.began..span.ended).contains(&request.sent)).count()
    }

    /// When the last request that failed through these nodes was sent, after `since`; zero if none was.
    pub fn last_failure(&self, nodes: &[usize], since: Duration) -> Duration {
        self.failed(nodes).map(|(request, _)| request.sent.saturating_sub(since)).max().unwrap_or_default()
    }

    fn is_prompt(&self, nodes: &[usize]) -> anyhow::Result<()> {
        let slow = self.through(nodes).find(|request| request.took >= ANSWERED_WITHIN);
        let what = slow.map(|request| (request, request.result.as_ref().map_or_else(String::as_str, |_| "answered")));
        ensure!(slow.is_none(), "{ANSWERED_WITHIN:?} are too much: {}", self.describe(what));
        Ok(())
    }

    fn slowest(&self, nodes: &[usize]) -> Duration {
        self.through(nodes).map(|request| request.took).max().unwrap_or_default()
    }

    fn failed(&self, nodes: &[usize]) -> impl Iterator<Item = (&Request, &str)> {
        self.through(nodes).filter_map(|request| Some((request, request.result.as_ref().err()?.as_str())))
    }

    fn during(&self, span: Span, nodes: &[usize]) -> impl Iterator<Item = &Request> {
        self.through(nodes).filter(move |request| (span.began..span.ended).contains(&request.sent))
    }

    fn through(&self, nodes: &[usize]) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| nodes.contains(&request.node))
    }

    fn describe(&self, failed: Option<(&Request, &str)>) -> String {
        let Some((request, what)) = failed else { return String::new() };
        let (sent, took) = (request.sent.as_secs_f32() - self.fault.began.as_secs_f32(), request.took.as_secs_f32());
        format!("{what}, after {took:.2} s, through node {}, sent {sent:.2} s after the fault's beginning", request.node)
    }
}

impl Span {
    pub fn seconds(self) -> f32 {
        self.ended.saturating_sub(self.began).as_secs_f32()
    }
}

/// All ways between so many nodes.
fn ways(nodes: usize) -> BTreeSet<Way> {
    (1..=nodes).flat_map(|node| (1..=nodes).map(move |pod| (node, pod))).collect()
}

/// None where it was no pod that answered.
fn way(site: &Site<'_>, success: &Success) -> Option<Way> {
    let node = site.targets.iter().position(|target| *target == success.target)?;
    let pod = site.cluster.nodes.iter().position(|node| node.name == success.backend)?;
    Some((node + 1, pod + 1))
}

fn requests(site: &Site<'_>, tally: Tally) -> Vec<Request> {
    let number = |target| site.targets.iter().position(|own| *own == target).map_or(0, |index| index + 1);
    let succeeded = tally.succeeded.into_iter().map(|success| {
        let result = way(site, &success).map(|(_, pod)| pod).ok_or_else(|| format!("200 from {:?}", success.backend));
        Request { sent: success.sent, took: success.took, node: number(success.target), result }
    });
    let failed = tally.failed.into_iter();
    let failed =
        failed.map(|failure| Request { sent: failure.sent, took: failure.took, node: number(failure.target), result: Err(failure.what) });
    succeeded.chain(failed).collect()
}
