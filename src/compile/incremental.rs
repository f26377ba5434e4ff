//! Compiling again after a change, at the cost of what the change concerns. Ingresses have to do with each other where they name the same host, and with nobody
//! else. So those that changed, whose Services changed, and all that are connected to these by hosts are compiled, by the same function as always, and their
//! hosts replaced in the table of before. What comes out is what compiling everything would give.

mod known;
mod secrets;
mod services;
mod tracked;

pub(super) use secrets::Secrets;
pub(super) use services::Services;
pub(super) use tracked::Name;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::{
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use self::{
    known::{Known, names},
    tracked::{Number, Tracked},
};
use super::{Diagnostic, Earlier, Findings, Objects, Options, Outcome, Together, certificates::default_name, compile_each, index::Index};
use crate::route::{HostPattern, Snapshot};

type Hosts = HashSet<HostPattern, RandomState>;

type Numbers = HashSet<Number, RandomState>;

/// A share of all Ingresses beyond which everything is compiled: then picking them out is no longer worth its cost.
const MOST: usize = 4;

/// Stands among Ingresses for whoever names the default certificate's Secret.
const NO_INGRESS: Number = 0;

/// What has become of an object since the last time.
#[derive(Debug, Clone)]
pub enum Edit<T> {
    /// It is there, or there in another version.
    Put(Arc<T>),
    /// It is gone.
    Remove {
        /// `metadata.namespace`; empty for a class.
        namespace: Arc<str>,
        /// `metadata.name`.
        name: Arc<str>,
    },
}

/// What has become of all objects that aren't what they were. Each is in it once.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// networking.k8s.io/v1 Ingress.
    pub ingresses: Vec<Edit<Ingress>>,
    /// networking.k8s.io/v1 IngressClass.
    pub classes: Vec<Edit<IngressClass>>,
    /// v1 Service.
    pub services: Vec<Edit<Service>>,
    /// discovery.k8s.io/v1 EndpointSlice.
    pub slices: Vec<Edit<EndpointSlice>>,
    /// v1 Secret.
    pub secrets: Vec<Edit<Secret>>,
}

/// What comes of a [`Delta`].
#[derive(Debug)]
pub struct Update {
    /// The table, if it is another one than before.
    pub snapshot: Option<Snapshot>,
    /// Everything wrong now, as in [`super::Compiled`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many Ingresses had to be looked at.
    pub compiled: usize,
}

/// Compiles the objects of one moment after the other, told what has changed from one to the next.
#[derive(Debug)]
pub struct Incremental {
    options: Options,
    ingresses: Tracked<Ingress>,
    classes: Tracked<IngressClass>,
    services: Tracked<Service>,
    slices: Tracked<EndpointSlice>,
    secrets: Tracked<Secret>,
    known: HashMap<Number, Known, RandomState>,
    /// Those that name a host.
    by_host: HashMap<HostPattern, Numbers, RandomState>,
    /// Those that name a host below a wildcard, whoever owns which has a say in that, where hosts are owned.
    below: HashMap<HostPattern, Numbers, RandomState>,
    earlier: Earlier,
}

impl Incremental {
    /// Nothing is compiled yet.
    pub fn new(options: Options) -> Self {
        let mut earlier = Earlier::default();
        if let Some(name) = default_name(&options) {
            earlier.secrets.enter(NO_INGRESS, &[name]);
        }
        Self {
            options,
            ingresses: Tracked::default(),
            classes: Tracked::default(),
            services: Tracked::default(),
            slices: Tracked::default(),
            secrets: Tracked::default(),
            known: HashMap::default(),
            by_host: HashMap::default(),
            below: HashMap::default(),
            earlier,
        }
    }

    /// Takes note of what has changed, and makes of all objects what [`super::compile`] does. `before` is what it has made of them the last time.
    pub fn compile(&mut self, delta: Delta, before: &Snapshot) -> Update {
        let Delta { ingresses, classes, services, slices, secrets } = delta;
        let ingresses = self.ingresses.turn(ingresses);
        let classes = self.classes.turn(classes);
        // Before the old versions are forgotten, so that nothing is that the new ones have in common with them.
        for (number, object) in &ingresses.new {
            self.enter(*number, object);
        }
        let mut hosts: Hosts = ingresses.gone.iter().flat_map(|(number, _)| self.forget(*number)).collect();
        let mut members = self.earlier.services.turn(&self.services.turn(services), &self.slices.turn(slices));
        members.extend(self.earlier.secrets.turn(&self.secrets.turn(secrets)));
        if members.remove(&NO_INGRESS) {
            // The default certificate goes with what holds for all hosts.
            hosts.insert(HostPattern::Any);
        }
        members.extend(ingresses.new.iter().map(|(number, _)| *number));
        self.connect(&mut members, &mut hosts);

        let whole = !classes.is_empty() || members.len() > self.known.len() / MOST;
        let objects = if whole { self.objects() } else { self.pick(&members) };
        let index = Index::new(&objects);
        let Together { snapshot, each, general, backends, secrets } = compile_each(&index, &self.options, &self.earlier);
        let compiled = each.len();
        for Outcome { ingress, accepted, findings } in each {
            let number = self.ingresses.number(&ingress.id.namespace, &ingress.id.name);
            if let Some(known) = number.and_then(|number| self.known.get_mut(&number)) {
                known.accepted = accepted;
                known.findings = findings;
            }
        }
        let snapshot = if whole { Some(snapshot).filter(|snapshot| snapshot != before) } else { before.with(&hosts, snapshot) };
        self.earlier.services.keep(backends);
        self.earlier.secrets.keep(secrets);
        let diagnostics = Findings::all(self.known.values().map(|known| &known.findings), &general);
        Update { snapshot, diagnostics, compiled }
    }

    /// Takes newer versions of Ingresses that make no difference to the table.
    pub fn refresh(&mut self, ingresses: Vec<Edit<Ingress>>) {
        let changes = self.ingresses.turn(ingresses);
        debug_assert!(changes.is_empty(), "they do make one");
    }

    /// All Ingresses, each with whether it is ours by its class, in any order.
    pub fn ingresses(&self) -> impl Iterator<Item = (&Arc<Ingress>, bool)> {
        let accepted = |number| self.known.get(&number).is_some_and(|known| known.accepted);
        self.ingresses.all().map(move |(ingress, number)| (ingress, accepted(number)))
    }

    /// What identifies an object of a kind, by the word in its field `kind`.
    pub fn metadata(&self, kind: &str, namespace: &str, name: &str) -> Option<&ObjectMeta> {
        match kind {
            "Ingress" => self.ingresses.get(namespace, name).map(|object| &object.metadata),
            "Service" => self.services.get(namespace, name).map(|object| &object.metadata),
            "EndpointSlice" => self.slices.get(namespace, name).map(|object| &object.metadata),
            "IngressClass" => self.classes.get(namespace, name).map(|object| &object.metadata),
            "Secret" => self.secrets.get(namespace, name).map(|object| &object.metadata),
            _ => None,
        }
    }

    /// Takes note of a new Ingress.
    fn enter(&mut self, number: Number, object: &Ingress) {
        let known = names(object, &self.options);
        for host in &known.hosts {
            self.by_host.entry(host.clone()).or_default().insert(number);
        }
        for wildcard in &known.above {
            self.below.entry(wildcard.clone()).or_default().insert(number);
        }
        self.earlier.services.enter(number, &known.services);
        self.earlier.secrets.enter(number, &known.secrets);
        self.known.insert(number, known);
    }

    /// Forgets an Ingress. Returns the hosts that it named.
    fn forget(&mut self, number: Number) -> Box<[HostPattern]> {
        let Some(Known { hosts, above, services, secrets, .. }) = self.known.remove(&number) else { return Box::default() };
        let remove = |from: &mut HashMap<HostPattern, Numbers, RandomState>, host: &HostPattern| {
            if let Entry::Occupied(mut named) = from.entry(host.clone()) {
                named.get_mut().remove(&number);
                if named.get().is_empty() {
                    named.remove();
                }
            }
        };
        hosts.iter().for_each(|host| remove(&mut self.by_host, host));
        above.iter().for_each(|wildcard| remove(&mut self.below, wildcard));
        self.earlier.services.forget(number, services);
        self.earlier.secrets.forget(number, secrets);
        hosts
    }

    /// Adds whoever is connected to `members` or `hosts` by a host, directly or by others; and all of their hosts.
    fn connect(&self, members: &mut Numbers, hosts: &mut Hosts) {
        let mut pending: Vec<HostPattern> = hosts.iter().cloned().collect();
        let mut reach = |known: &Known, pending: &mut Vec<HostPattern>| {
            // A wildcard that nobody names is nobody's.
            let owned = known.above.iter().filter(|wildcard| self.by_host.contains_key(*wildcard));
            pending.extend(known.hosts.iter().chain(owned).filter(|host| hosts.insert((*host).clone())).cloned());
        };
        members.iter().filter_map(|member| self.known.get(member)).for_each(|known| reach(known, &mut pending));
        while let Some(host) = pending.pop() {
            let numbers = self.by_host.get(&host).into_iter().chain(self.below.get(&host)).flatten();
            for known in numbers.filter(|number| members.insert(**number)).filter_map(|number| self.known.get(number)) {
                reach(known, &mut pending);
            }
        }
    }

    fn objects(&self) -> Objects {
        Objects {
            ingresses: self.ingresses.objects(),
            classes: self.classes.objects(),
            services: self.services.objects(),
            slices: self.slices.objects(),
            secrets: self.secrets.objects(),
        }
    }

    /// Of all objects what it takes to compile these Ingresses.
    fn pick(&self, members: &Numbers) -> Objects {
        let members = || members.iter().filter_map(|member| self.known.get(member));
        let services: HashSet<&Name, RandomState> = members().flat_map(|known| &known.services).collect();
        let default = default_name(&self.options);
        let secrets = members().flat_map(|known| &known.secrets).chain(&default).collect::<HashSet<&Name, RandomState>>().into_iter();
        let slices_of = |service: &Name| {
            let slices = self.earlier.services.slices(service).iter();
            slices.filter_map(|name| self.slices.get(&service.namespace, name)).cloned().collect::<Vec<_>>()
        };
        Objects {
            ingresses: members().filter_map(|known| self.ingresses.get(&known.id.namespace, &known.id.name)).cloned().collect(),
            classes: self.classes.objects(),
            services: services.iter().filter_map(|service| self.services.get(&service.namespace, &service.name)).cloned().collect(),
            slices: services.iter().flat_map(|service| slices_of(service)).collect(),
            secrets: secrets.filter_map(|secret| self.secrets.get(&secret.namespace, &secret.name)).cloned().collect(),
        }
    }
}
