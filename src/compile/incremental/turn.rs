//! One turn: what has changed and whom it concerns, what compiling these brings, and which new versions are put back for it.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;

use super::{
    super::{
        Diagnostic, Findings, Objects, Outcome, Together,
        annotations::protects_otherwise,
        certificates::{Looked, default_name},
        compile_each,
        index::Index,
        same::Same,
    },
    Delta, Edit, Hosts, Incremental, Numbers, Update,
    held::{self, Attempts, Due, Rejected},
    known::{Known, names},
    tracked::{Changes, Name, Number},
};
use crate::route::{Backend, HostPattern, Snapshot};

/// A share of all Ingresses beyond which everything is compiled: then picking them out is no longer worth its cost.
const MOST: usize = 4;

/// Stands among Ingresses for whoever names the default certificate's Secret.
pub(super) const NO_INGRESS: Number = 0;

/// What has changed from one time to the next.
pub(super) struct Turn {
    /// Whom it concerns.
    members: Numbers,
    /// And which hosts.
    hosts: Hosts,
    classes_changed: bool,
    pub(super) attempts: Attempts,
    /// Those that are to be forgotten.
    gone: Vec<Number>,
}

/// What compiling them has brought.
pub(super) struct Pass {
    /// All of them were compiled.
    whole: bool,
    snapshot: Snapshot,
    /// Whether each is ours, and what is wrong with it.
    outcomes: Vec<(Number, bool, Findings)>,
    compiled: usize,
    general: Vec<Diagnostic>,
    backends: Vec<Arc<Backend>>,
    secrets: Looked,
}

impl Incremental {
    /// Takes note of what has changed, and of whom it concerns.
    pub(super) fn turn(&mut self, delta: Delta) -> Turn {
        let Delta { ingresses, classes, services, slices, secrets, earlier } = delta;
        let classes_changed = !self.classes.turn(classes).is_empty();
        let (services, slices, secrets) = (self.services.turn(services), self.slices.turn(slices), self.secrets.turn(secrets));
        let mut members = self.earlier.services.turn(&services, &slices);
        members.extend(self.earlier.secrets.turn(&secrets));
        let mut edits = self.held.take(ingresses);
        let due = self.held.due(classes_changed, &services, &slices, &secrets);
        edits.extend(due.iter().map(|due| Edit::Put(Arc::clone(&due.newest))));
        let changes = self.ingresses.turn(edits);
        let attempts = held::attempts(&changes);
        let mut turn = Turn { members, hosts: Hosts::default(), classes_changed, attempts, gone: Vec::new() };
        for Due { name, newest, previous } in due {
            if newest.same(&previous) {
                // An edit was taken back.
                self.held.release(&name);
            } else if let Some(number) = self.ingresses.number(&name.namespace, &name.name) {
                turn.attempts.insert(number, previous);
                turn.members.insert(number);
            }
        }
        self.remember(earlier, &mut turn);
        if turn.members.remove(&NO_INGRESS) {
            // The default certificate goes with what holds for all hosts.
            turn.hosts.insert(HostPattern::Any);
        }
        self.note(&changes, &mut turn);
        turn
    }

    /// Has versions from before this process stand by, for whatever has come into force without one.
    fn remember(&self, earlier: Vec<Arc<Ingress>>, turn: &mut Turn) {
        for previous in earlier {
            let name = held::name_of(&previous);
            let now = self.ingresses.number(&name.namespace, &name.name).zip(self.ingresses.get(&name.namespace, &name.name));
            let Some((number, _)) = now.filter(|(_, new)| held::succeeds(new, &previous) && !self.held.remembers(&name)) else {
                continue;
            };
            turn.attempts.entry(number).or_insert(previous);
            turn.members.insert(number);
        }
    }

    /// Takes note of Ingresses that are others. Those that are gone are forgotten at the end of the turn, so that nothing is that those which follow have in
    /// common with them.
    fn note(&mut self, changes: &Changes<Ingress>, turn: &mut Turn) {
        for (number, object) in &changes.new {
            self.enter(*number, object);
            turn.members.insert(*number);
        }
        for (number, _) in &changes.gone {
            turn.hosts.extend(self.known.get(number).into_iter().flat_map(|known| known.hosts.iter().cloned()));
            turn.gone.push(*number);
        }
        self.connect(&mut turn.members, &mut turn.hosts);
    }

    /// Compiles whom it concerns.
    pub(super) fn pass(&self, turn: &Turn) -> Pass {
        let whole = turn.classes_changed || turn.members.len() > self.known.len() / MOST;
        let objects = if whole {
            self.objects()
        } else {
            let members = || turn.members.iter().filter_map(|member| self.known.get(member));
            let in_force = members().filter_map(|known| self.ingresses.get(&known.id.namespace, &known.id.name)).cloned();
            self.pick(members, in_force.collect())
        };
        let index = Index::new(&objects);
        let Together { snapshot, each, general, backends, secrets } = compile_each(&index, &self.options, &self.earlier);
        let compiled = each.len();
        let outcome = |Outcome { ingress, accepted, findings }: Outcome<'_>| {
            Some((self.ingresses.number(&ingress.id.namespace, &ingress.id.name)?, accepted, findings))
        };
        Pass { whole, snapshot, outcomes: each.into_iter().filter_map(outcome).collect(), compiled, general, backends, secrets }
    }

    /// Judges the new versions. Returns those that are worse than the ones before them.
    pub(super) fn judge(&mut self, pass: &Pass, attempts: &Attempts) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for (number, accepted, findings) in &pass.outcomes {
            let Some((previous, known)) = attempts.get(number).zip(self.known.get(number)) else { continue };
            let name = Name { namespace: Arc::clone(&known.id.namespace), name: Arc::clone(&known.id.name) };
            let Some(newest) = self.ingresses.get(&name.namespace, &name.name) else { continue };
            let alone = if *accepted && held::is_well(findings) { None } else { self.alone(newest) };
            if let Some(errors) = alone.as_ref().and_then(|alone| self.worse((newest, alone), previous)) {
                rejected.push(Rejected { newest: Arc::clone(newest), previous: Arc::clone(previous), errors });
            } else if *accepted && !alone.is_some_and(|alone| held::has_errors(&alone)) {
                self.held.release(&name);
            } else {
                self.held.admit(&name);
            }
        }
        rejected
    }

    /// The errors for which a version isn't to take another one's place.
    fn worse(&self, (newest, alone): (&Arc<Ingress>, &Findings), previous: &Arc<Ingress>) -> Option<Vec<Diagnostic>> {
        let may_stay_open = protects_otherwise(newest, previous);
        held::worse(alone, &self.alone(previous)?).filter(|_| !may_stay_open)
    }

    /// What would be wrong now with a version of an Ingress, had it nothing to do with others; `None` if it isn't ours.
    fn alone(&self, ingress: &Arc<Ingress>) -> Option<Findings> {
        let known = names(ingress, &self.options);
        let objects = self.pick(|| std::iter::once(&known), vec![Arc::clone(ingress)]);
        let index = Index::new(&objects);
        let outcome = compile_each(&index, &self.options, &self.earlier).each.pop()?;
        outcome.accepted.then_some(outcome.findings)
    }

    /// Has the versions before these in their places.
    pub(super) fn put_back(&mut self, rejected: Vec<Rejected>, turn: &mut Turn, now: Timestamp) {
        let previous = rejected.iter().map(|rejected| Edit::Put(Arc::clone(&rejected.previous))).collect();
        let changes = self.ingresses.turn(previous);
        self.note(&changes, turn);
        for rejected in rejected {
            self.held.hold(rejected, &self.options, now);
        }
    }

    /// Takes what was compiled for what is so.
    pub(super) fn take(&mut self, turn: Turn, pass: Pass, before: &Snapshot) -> Update {
        let Pass { whole, snapshot, outcomes, compiled, general, backends, secrets } = pass;
        for number in turn.gone {
            self.forget(number);
        }
        for (number, accepted, findings) in outcomes {
            if let Some(known) = self.known.get_mut(&number) {
                known.accepted = accepted;
                known.findings = findings;
            }
        }
        let snapshot = if whole { Some(snapshot).filter(|snapshot| snapshot != before) } else { before.with(&turn.hosts, snapshot) };
        self.earlier.services.keep(backends);
        self.earlier.secrets.keep(secrets);
        let general = general.iter().chain(self.held.findings());
        let diagnostics = Findings::all(self.known.values().map(|known| &known.findings), general);
        Update { snapshot, diagnostics, compiled }
    }

    /// All of them.
    fn objects(&self) -> Objects {
        Objects {
            ingresses: self.ingresses.objects(),
            classes: self.classes.objects(),
            services: self.services.objects(),
            slices: self.slices.objects(),
            secrets: self.secrets.objects(),
        }
    }

    /// Of all objects what it takes to compile these Ingresses, of which `known` is what they name.
    fn pick<'k, K: Iterator<Item = &'k Known>>(&self, known: impl Fn() -> K, ingresses: Vec<Arc<Ingress>>) -> Objects {
        let services: HashSet<&Name, RandomState> = known().flat_map(|known| &known.services).collect();
        let default = default_name(&self.options);
        let secrets = known().flat_map(|known| &known.secrets).chain(&default).collect::<HashSet<&Name, RandomState>>().into_iter();
        let slices_of = |service: &Name| {
            let slices = self.earlier.services.slices(service).iter();
            slices.filter_map(|name| self.slices.get(&service.namespace, name)).cloned().collect::<Vec<_>>()
        };
        Objects {
            ingresses,
            classes: self.classes.objects(),
            services: services.iter().filter_map(|service| self.services.get(&service.namespace, &service.name)).cloned().collect(),
            slices: services.iter().flat_map(|service| slices_of(service)).collect(),
            secrets: secrets.filter_map(|secret| self.secrets.get(&secret.namespace, &secret.name)).cloned().collect(),
        }
    }
}
