//! On how many nodes a version is in force: which nodes count, and what their pods report. No I/O.

use std::collections::{BTreeMap, HashMap};

use super::{
    report::{PodReport, Serves},
    seen::Seen,
};
use crate::{source::Covers, status::PodFacts};

/// One version of one Ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub version: u128,
}

/// How far a version has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that count: those where a pod of ours is Ready and isn't leaving.
    pub nodes: usize,
    /// Those of them where it isn't in force, and why.
    pub lagging: BTreeMap<String, Lag>,
}

/// Why a version isn't in force on a node. In the order in which they matter where two pods of a node differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lag {
    /// It has an earlier one.
    Behind,
    /// It reports nothing.
    Silent,
    /// It doesn't watch the Ingress's namespace.
    Unwatched,
    /// What it reports are no numbers.
    Unnumbered,
    /// It has so many Ingresses whose newest version isn't in force that it doesn't say whether this is one.
    PerhapsHeld,
    /// It has the version, and doesn't put it into force.
    Held,
}

impl Progress {
    /// On how many of the nodes it is in force.
    pub fn in_force(&self) -> usize {
        self.nodes.saturating_sub(self.lagging.len())
    }

    /// It is in force on every node, and there is one.
    pub fn is_complete(&self) -> bool {
        self.nodes > 0 && self.lagging.is_empty()
    }
}

/// Compares. A node counts when one of its pods is Ready and stays; then each of them has to have the version that is Ready, or that reports anything: during an
/// upgrade there are two, and either may be the one that accepts. One that is leaving is left by everybody soon.
pub fn progress<'a>(pods: impl IntoIterator<Item = &'a PodFacts>, reports: &Seen, target: &Target) -> Progress {
    let mut nodes: HashMap<&str, Vec<(bool, Option<&PodReport>)>> = HashMap::new();
    for pod in pods.into_iter().filter(|pod| !pod.leaving && !pod.node.is_empty()) {
        // One of a process before this one says nothing of it.
        let report = reports.get(&pod.uid).filter(|report| !pod.started.is_some_and(|started| report.is_older(started)));
        nodes.entry(&pod.node).or_default().push((pod.ready, report));
    }
    nodes.retain(|_, pods| pods.iter().any(|(ready, _)| *ready));
    let worst = |pods: &[(bool, Option<&PodReport>)]| pods.iter().filter_map(|(ready, report)| lag(*ready, *report, target)).max();
    let lagging = nodes.iter().filter_map(|(node, pods)| Some(((*node).to_owned(), worst(pods)?))).collect();
    Progress { nodes: nodes.len(), lagging }
}

fn lag(ready: bool, report: Option<&PodReport>, target: &Target) -> Option<Lag> {
    let Target { namespace, name, version } = target;
    match report.map(|report| report.serves(namespace, name, *version)) {
        None => ready.then_some(Lag::Silent),
        Some(Serves::Covered(Covers::Yes)) => None,
        Some(Serves::Covered(Covers::No)) => Some(Lag::Behind),
        Some(Serves::Covered(Covers::Unwatched)) => Some(Lag::Unwatched),
        Some(Serves::Covered(Covers::Unknown)) => Some(Lag::Unnumbered),
        Some(Serves::PerhapsHeld) => Some(Lag::PerhapsHeld),
        Some(Serves::Held) => Some(Lag::Held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convergence::report::tests::report;
    use jiff::Timestamp;

    const READY: (bool, bool) = (true, false);
    const STARTING: (bool, bool) = (false, false);
    const LEAVING: (bool, bool) = (true, true);

    fn target() -> Target {
        Target { namespace: "shop".into(), name: "web".into(), version: 100 }
    }

    /// Node, (ready, leaving), what it serves and holds; nothing for no report.
    type Pod<'a> = (&'a str, (bool, bool), Option<(&'a str, &'a [&'a str])>);

    fn compare(pods: &[Pod<'_>]) -> Progress {
        let (mut facts, mut reports) = (Vec::new(), Seen::new());
        for (at, (node, (ready, leaving), says)) in pods.iter().enumerate() {
            let uid = at.to_string();
            reports.extend(says.map(|(serves, held)| (uid.clone(), report(serves, held))));
            let started = (*node == "restarted").then(|| Timestamp::from_second(1).unwrap());
            facts.push(PodFacts { uid, node: (*node).to_owned(), controller: None, ready: *ready, leaving: *leaving, started });
        }
        progress(&facts, &reports, &target())
    }

    #[test]
    fn a_version_is_in_force_where_every_pod_that_may_accept_says_so() {
        let says = |serves: &'static str| Some((serves, &[][..]));
        let held = |names: &'static [&'static str]| Some(("100", names));
        let cases = [
            ("all nodes", vec![("a", READY, says("100")), ("b", READY, says("250"))], 2, vec![]),
            ("one is behind", vec![("a", READY, says("100")), ("b", READY, says("99"))], 2, vec![("b", Lag::Behind)]),
            ("one says nothing", vec![("a", READY, says("100")), ("b", READY, None)], 2, vec![("b", Lag::Silent)]),
            ("another process's", vec![("a", READY, says("100")), ("restarted", READY, says("100"))], 2, vec![("restarted", Lag::Silent)]),
            ("nobody is Ready there", vec![("a", READY, says("100")), ("b", STARTING, says("99"))], 1, vec![]),
            ("it leaves", vec![("a", READY, says("100")), ("b", LEAVING, says("99"))], 1, vec![]),
            ("a new pod that hasn't begun", vec![("a", READY, says("100")), ("a", STARTING, None)], 1, vec![]),
            ("a new pod that may accept", vec![("a", READY, says("100")), ("a", STARTING, says("5"))], 1, vec![("a", Lag::Behind)]),
            ("an old pod that leaves", vec![("a", LEAVING, says("1")), ("a", READY, says("100"))], 1, vec![]),
            ("not yet on a node", vec![("a", READY, says("100")), ("", READY, says("1"))], 1, vec![]),
            ("another namespace's", vec![("a", READY, says("api=500"))], 1, vec![("a", Lag::Unwatched)]),
            ("its own", vec![("a", READY, says("api=5,shop=100"))], 1, vec![]),
            ("no numbers", vec![("a", READY, says("?"))], 1, vec![("a", Lag::Unnumbered)]),
            ("held", vec![("a", READY, held(&["shop/web"])), ("b", READY, says("9"))], 2, vec![("a", Lag::Held), ("b", Lag::Behind)]),
            ("another one is held", vec![("a", READY, held(&["shop/api"]))], 1, vec![]),
            ("too many are held", vec![("a", READY, held(&["shop/api", "..."]))], 1, vec![("a", Lag::PerhapsHeld)]),
            ("held by one of two", vec![("a", READY, held(&["shop/web"])), ("a", READY, says("9"))], 1, vec![("a", Lag::Held)]),
            ("no pods", vec![], 0, vec![]),
        ];
        for (case, pods, nodes, lagging) in cases {
            let lagging: BTreeMap<_, _> = lagging.into_iter().map(|(node, lag)| (node.to_owned(), lag)).collect();
            assert_eq!(compare(&pods), Progress { nodes, lagging }, "{case}");
        }
    }

    #[test]
    fn a_version_that_is_served_nowhere_because_there_is_nobody_is_not_complete() {
        assert!(!compare(&[]).is_complete());
        let three = compare(&[("a", READY, Some(("100", &[]))), ("b", READY, None), ("c", READY, Some(("100", &[])))]);
        assert_eq!((three.in_force(), three.is_complete()), (2, false));
        assert!(compare(&[("a", READY, Some(("100", &[])))]).is_complete());
    }
}
