//! Compiling again after a change, at the cost of what the change concerns. Ingresses have to do with each other where they name the same host, and with nobody
//! else. So those that changed, whose Services changed, and all that are connected to these by hosts are compiled, by the same function as always, and their
//! hosts replaced in the table of before. What comes out is what compiling everything would give that is in force.

mod delta;
mod held;
mod known;
mod secrets;
mod services;
mod tracked;
mod turn;

pub use delta::{Delta, Edit, Standing, Update};
pub(super) use secrets::Secrets;
pub(super) use services::Services;
pub(super) use tracked::Name;

use std::collections::{HashMap, HashSet, hash_map::Entry};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use self::{
    held::Held,
    known::{Known, names},
    tracked::{Number, Tracked},
    turn::NO_INGRESS,
};
use super::{Earlier, Options, certificates::default_name};
use crate::route::{HostPattern, Snapshot};

type Hosts = HashSet<HostPattern, RandomState>;

type Numbers = HashSet<Number, RandomState>;

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
    held: Held,
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
            held: Held::default(),
            earlier,
        }
    }

    /// Takes note of what has changed, and makes of all objects what [`super::compile`] does, but for Ingresses whose newest version has errors that the one
    /// before it hasn't: of these it takes that one. `before` is what it has made of them the last time, `now` the time of which findings tell.
    pub fn compile(&mut self, delta: Delta, before: &Snapshot, now: Timestamp) -> Update {
        let mut turn = self.turn(delta);
        let mut pass = self.pass(&turn);
        let rejected = self.judge(&pass, &turn.attempts);
        if !rejected.is_empty() {
            self.put_back(rejected, &mut turn, now);
            pass = self.pass(&turn);
        }
        self.take(turn, pass, before)
    }

    /// Takes newer versions of Ingresses that make no difference to the table.
    pub fn refresh(&mut self, ingresses: Vec<Edit<Ingress>>) {
        let others = self.held.take(ingresses);
        let changes = self.ingresses.turn(others);
        debug_assert!(changes.is_empty(), "they do make one");
    }

    /// All Ingresses, in any order.
    pub fn ingresses(&self) -> impl Iterator<Item = Standing<'_>> {
        self.ingresses.all().map(|(in_force, number)| Standing {
            newest: self.held.newest(in_force).unwrap_or(in_force),
            in_force,
            accepted: self.known.get(&number).is_some_and(|known| known.accepted),
        })
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

    /// Forgets an Ingress.
    fn forget(&mut self, number: Number) {
        let Some(Known { hosts, above, services, secrets, .. }) = self.known.remove(&number) else { return };
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
}
