//! Ingresses whose newest version has errors that the one before it hasn't: that one stays in force, until the newest is mended, or what it lacks is there. It is
//! remembered until then, also while it has errors itself, or the Ingress isn't ours.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
};

use super::{
    super::{Diagnostic, Findings, Options, Severity, Subject, index, same::Same},
    Edit,
    known::names,
    tracked::{Changes, Name, Number},
};
use crate::route::IngressId;

/// Errors that hold no version back: those that take nothing away. Secrets come and go by themselves, and have a last good version of their own.
const NO_REASON: [&str; 7] =
    ["certificate_conflict", "conflict", "redirect_loop", "bad_authorities", "bad_secret", "unknown_secret", "unencrypted_backend"];

/// New versions, each with the one that they would replace.
pub(super) type Attempts = HashMap<Number, Arc<Ingress>, RandomState>;

/// A version that is to come into force some other time.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) newest: Arc<Ingress>,
    /// What stays.
    pub(super) previous: Arc<Ingress>,
    /// Why.
    pub(super) errors: Vec<Diagnostic>,
}

/// The newest versions of Ingresses of which an earlier one is remembered.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<Name, Version, RandomState>);

#[derive(Debug)]
struct Version {
    newest: Arc<Ingress>,
    /// In force, or remembered: where it has errors itself meanwhile, the newest is in force as it is.
    previous: Arc<Ingress>,
    /// Of the newest, while it isn't in force.
    rejection: Option<Rejection>,
    /// It has changed since it was looked at.
    edited: bool,
    /// What the two lead to.
    services: Box<[Name]>,
    secrets: Box<[Name]>,
}

#[derive(Debug)]
struct Rejection {
    /// Since when the previous version has its place.
    since: Timestamp,
    findings: Vec<Diagnostic>,
}

/// An Ingress whose newest version is to be looked at again.
pub(super) struct Due {
    pub(super) name: Name,
    pub(super) newest: Arc<Ingress>,
    pub(super) previous: Arc<Ingress>,
}

impl Held {
    /// Takes the edits of Ingresses that have a version here; returns the others.
    pub(super) fn take(&mut self, edits: Vec<Edit<Ingress>>) -> Vec<Edit<Ingress>> {
        if self.0.is_empty() {
            return edits;
        }
        let mut others = Vec::new();
        for edit in edits {
            let name = match &edit {
                Edit::Put(object) => name_of(object),
                Edit::Remove { namespace, name } => Name { namespace: Arc::from(index::or_default(namespace)), name: Arc::clone(name) },
            };
            match (self.0.get_mut(&name), edit) {
                (Some(version), Edit::Put(object)) if version.newest.metadata.uid == object.metadata.uid => {
                    version.edited |= !version.newest.same(&object);
                    version.newest = object;
                }
                // It is gone, and maybe there is another one of its name.
                (Some(_), edit) => {
                    self.0.remove(&name);
                    others.push(edit);
                }
                (None, edit) => others.push(edit),
            }
        }
        others
    }

    /// Those that may be better or worse now: they are others, or what they or the versions before them lead to is.
    pub(super) fn due(
        &mut self,
        all: bool,
        services: &Changes<Service>,
        slices: &Changes<EndpointSlice>,
        secrets: &Changes<Secret>,
    ) -> Vec<Due> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let of_services = services.all().map(|(service, _)| index::key(&service.metadata));
        let changed: HashSet<(&str, &str)> = of_services.chain(slices.all().filter_map(|(slice, _)| index::service_of(slice))).collect();
        let secrets: HashSet<(&str, &str)> = secrets.all().map(|(secret, _)| index::key(&secret.metadata)).collect();
        let among =
            |names: &[Name], changed: &HashSet<(&str, &str)>| names.iter().any(|name| changed.contains(&(&*name.namespace, &*name.name)));
        let is_due = |version: &mut Version| {
            std::mem::take(&mut version.edited) || all || among(&version.services, &changed) || among(&version.secrets, &secrets)
        };
        let due = self.0.iter_mut().filter_map(|(name, version)| {
            is_due(version).then(|| Due {
                name: name.clone(),
                newest: Arc::clone(&version.newest),
                previous: Arc::clone(&version.previous),
            })
        });
        due.collect()
    }

    /// Its newest version is in force, and is all right; or it is what was in force all the time.
    pub(super) fn release(&mut self, name: &Name) {
        self.0.remove(name);
    }

    /// Its newest version is in force, with its errors: the previous one has others now.
    pub(super) fn admit(&mut self, name: &Name) {
        if let Some(version) = self.0.get_mut(name) {
            version.rejection = None;
        }
    }

    /// Its newest version isn't in force.
    pub(super) fn hold(&mut self, rejected: Rejected, options: &Options, now: Timestamp) {
        let Rejected { newest, previous, errors } = rejected;
        let [new, old] = [&newest, &previous].map(|ingress| names(ingress, options));
        let name = name_of(&newest);
        let since = self.0.get(&name).and_then(|version| version.rejection.as_ref()).map_or(now, |rejection| rejection.since);
        let rejection = Some(Rejection { since, findings: findings(&new.id, errors, since) });
        let both = |new: Box<[Name]>, old: Box<[Name]>| new.into_iter().chain(old).collect();
        let (services, secrets) = (both(new.services, old.services), both(new.secrets, old.secrets));
        self.0.insert(name, Version { newest, previous, rejection, edited: false, services, secrets });
    }

    /// The newest version, where it isn't in force.
    pub(super) fn newest(&self, in_force: &Ingress) -> Option<&Arc<Ingress>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&name_of(in_force)).filter(|version| version.rejection.is_some()).map(|version| &version.newest)
    }

    /// Whether there is an earlier version of it.
    pub(super) fn remembers(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }

    /// What is wrong with those versions, and that others are in their places.
    pub(super) fn findings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.values().filter_map(|version| version.rejection.as_ref()).flat_map(|rejection| &rejection.findings)
    }
}

/// The new versions, each with the one before it.
pub(super) fn attempts(changes: &Changes<Ingress>) -> Attempts {
    let before: HashMap<(&str, &str), &Arc<Ingress>, RandomState> =
        changes.gone.iter().map(|(_, object)| (index::key(&object.metadata), object)).collect();
    let attempted = changes.new.iter().filter_map(|(number, object)| {
        let previous = before.get(&index::key(&object.metadata)).filter(|previous| succeeds(object, previous))?;
        Some((*number, Arc::clone(previous)))
    });
    attempted.collect()
}

/// Whether it is another version of the same object.
pub(super) fn succeeds(new: &Ingress, previous: &Ingress) -> bool {
    new.metadata.uid == previous.metadata.uid && !new.same(previous)
}

/// Whether nothing is wrong with it that may hold it back, for all that one can say: a host that is another namespace's hides what is wrong below it.
pub(super) fn is_well(findings: &Findings) -> bool {
    !has_errors(findings) && findings.own.iter().all(|finding| finding.code != "host_owned")
}

/// Whether it has errors of its own making.
pub(super) fn has_errors(findings: &Findings) -> bool {
    own_errors(findings).next().is_some()
}

/// The errors that a new version has beyond the previous one's. Nothing where it has none, nor where the previous one has others, which the new one may be
/// there to mend, nor where the new one is shut as a whole. By what is said, since places in an Ingress move with an edit.
pub(super) fn worse(new: &Findings, previous: &Findings) -> Option<Vec<Diagnostic>> {
    let mut rest: Vec<&Diagnostic> = own_errors(new).filter(|_| !new.refuses).collect();
    for error in own_errors(previous) {
        let at = rest.iter().position(|other| (other.code, &other.message) == (error.code, &error.message))?;
        rest.swap_remove(at);
    }
    (!rest.is_empty()).then(|| rest.into_iter().cloned().collect())
}

/// The errors of an Ingress's own making.
fn own_errors(findings: &Findings) -> impl Iterator<Item = &Diagnostic> {
    findings.own.iter().filter(|finding| finding.severity == Severity::Error && !NO_REASON.contains(&finding.code))
}

fn findings(id: &IngressId, errors: Vec<Diagnostic>, since: Timestamp) -> Vec<Diagnostic> {
    // To the minute: another process may have heard of it a moment later, and says the same all the same.
    let since = since.strftime("%Y-%m-%d %H:%M");
    let message =
        format!("its newest version has errors, and isn't in force: since {since} UTC an earlier one without them stays in its place");
    let stays = Diagnostic::error("previous_in_force", Subject::ingress(id, ""), message, "correct it; what is wrong is said beside this");
    let why =
        errors.into_iter().map(|error| Diagnostic { message: format!("in the version that isn't in force: {}", error.message), ..error });
    std::iter::once(stays).chain(why).collect()
}

pub(super) fn name_of(object: &Ingress) -> Name {
    let (namespace, name) = index::key(&object.metadata);
    Name { namespace: Arc::from(namespace), name: Arc::from(name) }
}

#[cfg(test)]
mod tests;
