//! Which version of each Ingress should be in force: a model that looks at everything anew after each moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{api::networking::v1::Ingress, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use nodegate::compile::{Compiled, Diagnostic, Objects, Options, Severity, Subject, compile};

use crate::Cluster;

/// The Ingresses in the versions that should be in force: after each moment looked at anew, one by one.
#[derive(Default)]
pub(crate) struct InForce(BTreeMap<String, Judged>);

#[derive(Clone)]
struct Judged {
    in_force: Arc<Ingress>,
    /// The version before one that was worse, until there is a good one.
    remembered: Option<Arc<Ingress>>,
    /// Since when it is in that one's place, in minutes.
    since: Option<i64>,
}

impl InForce {
    pub(crate) fn follow(&mut self, cluster: &Cluster, options: &Options, minute: i64) {
        let before = std::mem::take(&mut self.0);
        for (name, newest) in &cluster.ingresses {
            let mut judged = Judged { in_force: Arc::clone(newest), remembered: None, since: None };
            if let Some(before) = before.get(name) {
                let previous = before.remembered.as_ref().unwrap_or(&before.in_force);
                if is_worse(newest, previous, cluster, options) {
                    judged = Judged {
                        in_force: Arc::clone(previous),
                        remembered: Some(Arc::clone(previous)),
                        since: before.since.or(Some(minute)),
                    };
                } else if own_errors(newest, cluster, options).is_none_or(|errors| !errors.is_empty()) && !is_same(newest, previous) {
                    judged.remembered.clone_from(&before.remembered);
                }
            }
            self.0.insert(name.clone(), judged);
        }
    }

    pub(crate) fn of(&self, cluster: &Cluster) -> Cluster {
        let ingresses = self.0.iter().map(|(name, judged)| (name.clone(), Arc::clone(&judged.in_force))).collect();
        Cluster { ingresses, ..cluster.clone() }
    }

    /// Those that aren't in their newest version, as their findings say it.
    pub(crate) fn held(&self) -> BTreeSet<String> {
        let held = self.0.values().filter_map(|judged| Some((&judged.in_force.metadata, judged.since?)));
        let text = |(metadata, since): (&ObjectMeta, i64)| {
            let text = |text: &Option<String>| text.clone().unwrap();
            format!("{}/{} since 1970-01-01 00:{since:02} UTC", text(&metadata.namespace), text(&metadata.name))
        };
        held.map(text).collect()
    }
}

/// The same from what was found.
pub(crate) fn held(compiled: &Compiled) -> BTreeSet<String> {
    let previous = compiled.diagnostics.iter().filter(|diagnostic| diagnostic.code == "previous_in_force");
    let text = |diagnostic: &Diagnostic| {
        let since = diagnostic.message.split_once("since ").and_then(|(_, time)| time.split_once(" UTC")).map(|(time, _)| time);
        let Subject::Object { namespace, name, .. } = &diagnostic.subject else { unreachable!("an Ingress") };
        format!("{namespace}/{name} since {} UTC", since.unwrap())
    };
    previous.map(text).collect()
}

fn is_same(one: &Ingress, other: &Ingress) -> bool {
    one.spec == other.spec
        && one.metadata.annotations == other.metadata.annotations
        && one.metadata.creation_timestamp == other.metadata.creation_timestamp
}

/// Has errors of its own that the other one hasn't, which has none that it hasn't; and asks for no other protection.
fn is_worse(newest: &Arc<Ingress>, previous: &Arc<Ingress>, cluster: &Cluster, options: &Options) -> bool {
    let protection = |ingress: &Ingress| {
        let annotations = ingress.metadata.annotations.clone().unwrap_or_default();
        ["backend-protocol", "backend-ca-secret"].map(|key| annotations.get(&format!("nodegate.dev/{key}")).cloned())
    };
    if is_same(newest, previous) || protection(newest) != protection(previous) {
        return false;
    }
    let errors = |ingress| own_errors(ingress, cluster, options);
    let (Some(mut new), Some(old)) = (errors(newest), errors(previous)) else { return false };
    let is_there = |error| new.iter().position(|other| *other == error).map(|at| new.remove(at)).is_some();
    old.into_iter().all(is_there) && !new.is_empty()
}

/// What would be wrong with it if it had nothing to do with others; `None` if it isn't ours.
fn own_errors(ingress: &Arc<Ingress>, cluster: &Cluster, options: &Options) -> Option<Vec<(&'static str, String)>> {
    let alone = Objects { ingresses: vec![Arc::clone(ingress)], ..cluster.objects() };
    let Compiled { diagnostics, accepted, .. } = compile(&alone, options);
    let is_own = |diagnostic: &Diagnostic| {
        let no_reason = ["certificate_conflict", "conflict", "host_owned", "bad_secret", "unknown_secret"];
        let of_ingress = matches!(diagnostic.subject, Subject::Object { kind: "Ingress", .. });
        of_ingress && diagnostic.severity == Severity::Error && !no_reason.contains(&diagnostic.code)
    };
    let own = diagnostics.into_iter().filter(is_own).map(|diagnostic| (diagnostic.code, diagnostic.message)).collect();
    (!accepted.is_empty()).then_some(own)
}
