//! A report: what it says, how a Lease is written from it, and read again. No I/O.

use std::{collections::BTreeSet, str::FromStr};

use jiff::Timestamp;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use crate::{
    config::limits::REPORT_HELD,
    source::{Coverage, Covers, Report},
};

/// The label of every such Lease.
pub const LABEL: &str = "nodegate.dev/report=serves";

const LABEL_KEY: &str = "nodegate.dev/report";
const LABEL_VALUE: &str = "serves";

/// Which versions are served, as [`Coverage`] is written.
const SERVES: &str = "nodegate.dev/serves";

/// Ingresses whose newest version isn't in force, as `namespace/name`, by commas.
const HELD: &str = "nodegate.dev/held";

/// The generation of the process's table, for people: it is in `/config` and the metrics, too.
const GENERATION: &str = "nodegate.dev/generation";

/// When the process began to run, by the node's clock: a container that is started again has the same pod, and another process.
const STARTED: &str = "nodegate.dev/started";

/// In the place of the names beyond [`REPORT_HELD`].
const MORE: &str = "...";

/// Behind the pod's name: the leader's Lease is in the same namespace, under whatever name.
const NAME_END: &str = ".serves";

/// What a process serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodReport {
    coverage: Coverage,
    /// At most [`REPORT_HELD`].
    held: BTreeSet<String>,
    /// There are more.
    more_held: bool,
    /// When the process began that wrote it, where it says so.
    started: Option<Timestamp>,
}

/// What a report says of one version of one Ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    /// As far as its coverage tells; [`Covers::Yes`] means that it is in force.
    Covered(Covers),
    /// It was taken in, and isn't in force: the version before it is, or none.
    Held,
    /// It was taken in; whether it is among the many that aren't in force, isn't said.
    PerhapsHeld,
}

impl PodReport {
    /// What this process has to say; nothing before its table is what the source says.
    pub(super) fn of(report: &Report, started: Timestamp) -> Option<Self> {
        let held = || report.held.iter().map(|ingress| format!("{}/{}", ingress.namespace, ingress.name));
        report.is_live().then(|| Self {
            coverage: report.coverage.clone(),
            held: held().take(REPORT_HELD).collect(),
            more_held: report.held.len() > REPORT_HELD,
            started: Some(started),
        })
    }

    /// Whether a process wrote it that began before that.
    pub(super) fn is_older(&self, container: Timestamp) -> bool {
        self.started.is_some_and(|started| started < container)
    }

    /// Whether that version of that Ingress, or a later one, is in force where this was written.
    pub(super) fn serves(&self, namespace: &str, name: &str, version: u128) -> Serves {
        match self.coverage.covers(namespace, version) {
            Covers::Yes if self.held.contains(&format!("{namespace}/{name}")) => Serves::Held,
            Covers::Yes if self.more_held => Serves::PerhapsHeld,
            covers => Serves::Covered(covers),
        }
    }

    /// The Lease that says so, to be applied.
    pub(super) fn lease(&self, namespace: &str, pod: &str, uid: &str, generation: u64) -> Value {
        let held = self.held.iter().map(String::as_str).chain(self.more_held.then_some(MORE));
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "namespace": namespace,
                "name": lease_name(pod),
                "labels": { LABEL_KEY: LABEL_VALUE },
                "annotations": {
                    SERVES: self.coverage.to_string(),
                    HELD: held.collect::<Vec<_>>().join(","),
                    GENERATION: generation.to_string(),
                    STARTED: self.started.map(|started| started.to_string()),
                },
                // It goes with its pod.
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid }],
            },
            "spec": { "holderIdentity": pod },
        })
    }

    /// Reads one again. Returns the uid of the pod whose it is, too. Nothing where it is no report.
    pub(super) fn read(metadata: &ObjectMeta) -> Option<(String, Self)> {
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Pod")?;
        let annotation = |key| metadata.annotations.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str);
        let coverage = Coverage::from_str(annotation(SERVES)).ok()?;
        let mut held: BTreeSet<String> = annotation(HELD).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let more_held = held.remove(MORE);
        Some((owner.uid.clone(), Self { coverage, held, more_held, started: annotation(STARTED).parse().ok() }))
    }
}

/// The name of a pod's Lease.
pub(super) fn lease_name(pod: &str) -> String {
    format!("{pod}{NAME_END}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::source::{ObjectName, State};

    /// A report as a Lease would say it.
    pub(in crate::convergence) fn report(serves: &str, held: &[&str]) -> PodReport {
        PodReport {
            coverage: serves.parse().unwrap(),
            held: held.iter().filter(|name| **name != MORE).map(ToString::to_string).collect(),
            more_held: held.contains(&MORE),
            started: Some(Timestamp::UNIX_EPOCH),
        }
    }

    fn live(serves: &str, held: &[String]) -> Report {
        let name = |name: &String| ObjectName { kind: "Ingress", namespace: "shop".into(), name: name.as_str().into() };
        Report { ready: true, coverage: serves.parse().unwrap(), held: held.iter().map(name).collect(), ..Report::default() }
    }

    fn through_a_lease(report: &PodReport) -> (String, PodReport) {
        let lease = report.lease("nodegate-system", "nodegate-x7k2p", "u1", 4);
        PodReport::read(&serde_json::from_value(lease["metadata"].clone()).unwrap()).unwrap()
    }

    #[test]
    fn what_a_lease_says_is_what_was_reported() {
        for (serves, held) in [("118", &[][..]), ("", &[]), ("api=?,shop=97", &["shop/web"]), ("5", &["a/b", "c/d", MORE])] {
            let report = report(serves, held);
            assert_eq!(through_a_lease(&report), ("u1".to_owned(), report), "{serves}");
        }
        let lease = report("118", &["shop/web"]).lease("nodegate-system", "nodegate-x7k2p", "u1", 4);
        assert_eq!(lease["metadata"]["name"], "nodegate-x7k2p.serves");
        assert_eq!(
            lease["metadata"]["annotations"],
            json!({ SERVES: "118", HELD: "shop/web", GENERATION: "4", STARTED: "1970-01-01T00:00:00Z" })
        );
        assert_eq!(format!("{LABEL_KEY}={LABEL_VALUE}"), LABEL);
    }

    #[test]
    fn a_lease_without_a_pod_or_with_nonsense_is_no_report() {
        let lease = report("118", &[]).lease("n", "p", "u1", 4);
        for (pointer, value) in [
            ("/metadata/ownerReferences", json!([])),
            ("/metadata/annotations", json!({ SERVES: "soon" })),
            ("/metadata/ownerReferences/0/kind", json!("Node")),
        ] {
            let mut wrong = lease.clone();
            *wrong.pointer_mut(pointer).unwrap() = value;
            assert_eq!(PodReport::read(&serde_json::from_value(wrong["metadata"].clone()).unwrap()), None, "{pointer}");
        }
    }

    #[test]
    fn nothing_is_reported_before_the_table_is_the_sources_own() {
        let report = live("118", &[]);
        assert!(PodReport::of(&report, Timestamp::UNIX_EPOCH).is_some());
        assert_eq!(PodReport::of(&Report { ready: false, ..report.clone() }, Timestamp::UNIX_EPOCH), None);
        let restored = State { restored: Some(std::time::SystemTime::UNIX_EPOCH), ..State::default() };
        assert_eq!(PodReport::of(&Report { state: restored, ..report }, Timestamp::UNIX_EPOCH), None, "a table from disk");
    }

    #[test]
    fn what_is_held_is_not_served_and_names_beyond_the_bound_leave_a_doubt() {
        let names: Vec<String> = (0..=REPORT_HELD).map(|number| format!("web-{number:03}")).collect();
        let few = through_a_lease(&PodReport::of(&live("118", &names[..2]), Timestamp::UNIX_EPOCH).unwrap()).1;
        let cases =
            [("web-001", 118, Serves::Held), ("web-001", 119, Serves::Covered(Covers::No)), ("other", 118, Serves::Covered(Covers::Yes))];
        for (name, version, expected) in cases {
            assert_eq!(few.serves("shop", name, version), expected, "{name} {version}");
        }
        let many = through_a_lease(&PodReport::of(&live("118", &names), Timestamp::UNIX_EPOCH).unwrap()).1;
        assert_eq!(many.held.len(), REPORT_HELD);
        assert_eq!((many.serves("shop", "web-001", 7), many.serves("shop", "other", 7)), (Serves::Held, Serves::PerhapsHeld));
    }
}
