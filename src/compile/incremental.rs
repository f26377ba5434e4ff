//! Compiling again after a change, at the cost of what the change concerns. Ingresses have to do with each other where they name the same host, and with nobody
//! else. So those that changed, whose Services changed, and all that are connected to these by hosts are compiled, by the same function as always, and their
//! hosts replaced in the table of before. What comes out is what compiling everything would give.

mod services;
mod tracked;

pub(super) use services::Services;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};

use self::{
    services::ServiceName,
    tracked::{Number, Tracked},
};
use super::{
    Compiled, Findings, HostOwnership, Objects, Options, Outcome, Together, compile_each,
    index::{self, Index},
    parse::{self, BackendRef, Parsed},
};
use crate::route::{HostPattern, IngressId, Snapshot};

type Hosts = HashSet<HostPattern, RandomState>;

type Numbers = HashSet<Number, RandomState>;

/// A share of all Ingresses beyond which everything is compiled: then picking them out is no longer worth its cost.
const MOST: usize = 4;

/// Compiles the objects of one moment after the other. Each time an object must be among them once, as in a store.
#[derive(Debug)]
pub struct Incremental {
    options: Options,
    ingresses: Tracked<Ingress>,
    classes: Tracked<IngressClass>,
    services: Tracked<Service>,
    slices: Tracked<EndpointSlice>,
    known: HashMap<Number, Known, RandomState>,
    /// Those that name a host.
    by_host: HashMap<HostPattern, Numbers, RandomState>,
    /// Those that name a host below a wildcard, whoever owns which has a say in that, where hosts are owned.
    below: HashMap<HostPattern, Numbers, RandomState>,
    by_service: Services,
    snapshot: Snapshot,
}

/// One Ingress, and what came of it.
#[derive(Debug)]
struct Known {
    id: Arc<IngressId>,
    hosts: Box<[HostPattern]>,
    /// The wildcards above its hosts, where hosts are owned.
    above: Box<[HostPattern]>,
    services: Box<[ServiceName]>,
    accepted: bool,
    findings: Findings,
}

impl Incremental {
    /// Nothing is compiled yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ingresses: Tracked::default(),
            classes: Tracked::default(),
            services: Tracked::default(),
            slices: Tracked::default(),
            known: HashMap::default(),
            by_host: HashMap::default(),
            below: HashMap::default(),
            by_service: Services::default(),
            snapshot: Snapshot::default(),
        }
    }

    /// The same as [`super::compile`] makes of these objects.
    pub fn compile(&mut self, objects: &Objects) -> Compiled {
        let Objects { ingresses, classes, services, slices, secrets: _ } = objects;
        let ingresses = self.ingresses.turn(ingresses);
        let classes = self.classes.turn(classes);
        let mut hosts: Hosts = ingresses.gone.iter().flat_map(|(number, _)| self.forget(*number)).collect();
        let mut members = self.by_service.turn(&self.services.turn(services), &self.slices.turn(slices));
        for (number, object) in &ingresses.new {
            self.enter(*number, object);
            members.insert(*number);
        }
        self.connect(&mut members, &mut hosts);

        let whole = !classes.is_empty() || members.len() > self.known.len() / MOST;
        let picked = if whole { None } else { Some(self.pick(&members, objects)) };
        let index = Index::new(picked.as_ref().unwrap_or(objects));
        let Together { snapshot, each, backends } = compile_each(&index, &self.options, &self.by_service);
        let compiled = each.len();
        for Outcome { ingress, accepted, findings } in each {
            let number = self.ingresses.number(&ingress.id.namespace, &ingress.id.name);
            if let Some(known) = number.and_then(|number| self.known.get_mut(&number)) {
                known.accepted = accepted;
                known.findings = findings;
            }
        }
        self.snapshot = if whole { snapshot } else { self.snapshot.with(&hosts, snapshot) };
        self.by_service.keep(backends);
        let diagnostics = Findings::all(self.known.values().map(|known| &known.findings));
        let accepted = self.known.values().filter(|known| known.accepted).map(|known| Arc::clone(&known.id)).collect();
        Compiled { snapshot: self.snapshot.clone(), diagnostics, accepted, compiled }
    }

    /// Takes newer versions of Ingresses that make no difference, so that the old ones aren't kept until the next time.
    pub fn refresh(&mut self, ingresses: &[Arc<Ingress>]) {
        self.ingresses.refresh(ingresses);
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
        self.by_service.enter(number, &known.services);
        self.known.insert(number, known);
    }

    /// Forgets an Ingress. Returns the hosts that it named.
    fn forget(&mut self, number: Number) -> Box<[HostPattern]> {
        let Some(Known { hosts, above, services, .. }) = self.known.remove(&number) else { return Box::default() };
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
        self.by_service.forget(number, services);
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

    /// Of all objects what it takes to compile these Ingresses.
    fn pick(&self, members: &Numbers, objects: &Objects) -> Objects {
        let members = || members.iter().filter_map(|member| self.known.get(member));
        let services: HashSet<&ServiceName, RandomState> = members().flat_map(|known| &known.services).collect();
        let slices_of = |service: &ServiceName| {
            let slices = self.by_service.slices(service).iter();
            slices.filter_map(|name| self.slices.get(&service.namespace, name)).cloned().collect::<Vec<_>>()
        };
        Objects {
            ingresses: members().filter_map(|known| self.ingresses.get(&known.id.namespace, &known.id.name)).cloned().collect(),
            classes: objects.classes.clone(),
            services: services.iter().filter_map(|service| self.services.get(&service.namespace, &service.name)).cloned().collect(),
            slices: services.iter().flat_map(|service| slices_of(service)).collect(),
            secrets: Vec::new(),
        }
    }
}

/// An Ingress with the hosts and Services that it names, each once.
fn names(object: &Ingress, options: &Options) -> Known {
    let (namespace, name) = index::key(&object.metadata);
    let id = IngressId { namespace: Arc::from(namespace), name: Arc::from(name) };
    let Parsed { default, rules, has_rules, has_tls: _ } = parse::parse(object, &id, &mut Vec::new());
    let mut hosts: Vec<HostPattern> = rules.iter().map(|rule| rule.host.clone()).collect();
    if default.is_some() && !has_rules {
        hosts.push(HostPattern::Any);
    }
    let mut above: Vec<_> = match options.host_ownership {
        HostOwnership::Namespace => hosts.iter().filter_map(HostPattern::wildcard_above).collect(),
        HostOwnership::Shared => Vec::new(),
    };
    let backends = default.into_iter().chain(rules.iter().flat_map(|rule| &rule.paths).map(|path| path.backend));
    let service_of = |backend| if let BackendRef::Service { name, port: _ } = backend { Some(name) } else { None };
    let mut services: Vec<&str> = backends.filter_map(service_of).collect();
    hosts.sort();
    hosts.dedup();
    above.sort();
    above.dedup();
    services.sort_unstable();
    services.dedup();
    let services = services.into_iter().map(|name| ServiceName { namespace: Arc::clone(&id.namespace), name: Arc::from(name) });
    let services = services.collect();
    Known { id: Arc::new(id), hosts: hosts.into(), above: above.into(), services, accepted: false, findings: Findings::default() }
}
