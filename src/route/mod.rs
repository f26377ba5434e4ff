//! The compiled route table: an immutable [`Snapshot`] and its one question, [`Snapshot::find`]. Pure: no I/O, clock, or logging.

mod backend;
mod builder;
mod certificates;
mod explain;
mod host;
mod path;
mod policy;
mod render;

pub use backend::{Backend, BackendId, BackendTls, Endpoints, Protocol, Target};
pub use builder::Builder;
pub use certificates::{Bound, HostCertificates, Precedent};
pub use explain::{Candidate, Explanation, Verdict};
pub use host::{BadHost, HostPattern};
pub use path::PathPattern;
pub use policy::Policy;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use foldhash::fast::RandomState;

use crate::certificate::ClientTrust;

use path::PathTable;

/// Everything a request asks, as one immutable value. Two are equal when no request, `explain` or `routes` could tell them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The tables of hosts that a change doesn't concern are the same ones before it and after.
    exact: HashMap<Arc<str>, Arc<HostTable>, RandomState>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<Arc<str>, Arc<HostTable>, RandomState>,
    any: Arc<HostTable>,
    /// For whatever nothing else matches.
    default: Option<Arc<Route>>,
    losers: Arc<[Loser]>,
    /// For connections whose host has no certificate of its own.
    default_certificate: Option<Arc<HostCertificates>>,
}

impl Snapshot {
    /// The route for a request. `host` is canonical (lower case, without port and trailing dot, punycode; empty when an HTTP/1.0 request had
    /// none), `path` is normalised ([`crate::message`]). The cost does not grow with the number of hosts.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let exact = self.exact.get(host);
        if let Some(rule) = exact.and_then(|table| table.paths.find(path)) {
            return Some(&rule.route);
        }
        let wildcard = host::parent(host).and_then(|parent| self.wildcard.get(parent));
        if let Some(rule) = wildcard.and_then(|table| table.paths.find(path)).or_else(|| self.any.paths.find(path)) {
            return Some(&rule.route);
        }
        exact
            .and_then(|table| table.default.as_ref())
            .or_else(|| wildcard.and_then(|table| table.default.as_ref()))
            .or(self.any.default.as_ref())
            .or(self.default.as_ref())
    }

    /// The same with everything that it says of `hosts` replaced by what `part` says, which says nothing of others; `None` where both say the same.
    pub(crate) fn with(&self, hosts: &HashSet<HostPattern, RandomState>, part: Self) -> Option<Self> {
        if hosts.iter().all(|host| self.says_the_same(host, &part)) {
            return None;
        }
        let mut whole = self.clone();
        for host in hosts {
            match host {
                HostPattern::Exact(name) => drop(whole.exact.remove(name)),
                HostPattern::Wildcard(name) => drop(whole.wildcard.remove(name)),
                HostPattern::Any => {
                    whole.any = Arc::clone(&part.any);
                    whole.default.clone_from(&part.default);
                    whole.losers = Arc::clone(&part.losers);
                    whole.default_certificate.clone_from(&part.default_certificate);
                }
            }
        }
        whole.exact.extend(part.exact);
        whole.wildcard.extend(part.wildcard);
        Some(whole)
    }

    fn says_the_same(&self, host: &HostPattern, other: &Self) -> bool {
        match host {
            HostPattern::Exact(name) => self.exact.get(name) == other.exact.get(name),
            HostPattern::Wildcard(name) => self.wildcard.get(name) == other.wildcard.get(name),
            HostPattern::Any => {
                let Self { exact: _, wildcard: _, any, default, losers, default_certificate } = self;
                *any == other.any
                    && *default == other.default
                    && *losers == other.losers
                    && *default_certificate == other.default_certificate
            }
        }
    }

    /// Host names that rules name: exact ones and wildcards.
    pub fn hosts(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Every route in force, in a stable order: exact hosts by name, wildcards, rules without a host, the default; within a host in the order in
    /// which its rules are tried.
    pub fn routes(&self) -> impl Iterator<Item = Entry<'_>> {
        let default = self.default.iter().map(|route| Entry { host: HostPattern::Any, place: Place::Otherwise, route });
        self.tables().into_iter().flat_map(|(host, table)| table.entries(host)).chain(default)
    }

    /// Every host's table, in stable order.
    fn tables(&self) -> Vec<(HostPattern, &HostTable)> {
        let exact = self.exact.iter().map(|(name, table)| (HostPattern::Exact(Arc::clone(name)), &**table));
        let wildcard = self.wildcard.iter().map(|(name, table)| (HostPattern::Wildcard(Arc::clone(name)), &**table));
        let mut tables: Vec<_> = exact.chain(wildcard).chain([(HostPattern::Any, &*self.any)]).collect();
        tables.sort_by(|(a, _), (b, _)| a.cmp(b));
        tables
    }
}

/// One rule's path (or default backend), compiled. Paths of one Ingress that lead to one backend share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The Ingress it came from.
    pub ingress: Arc<IngressId>,
    /// Where it leads.
    pub backend: Arc<Backend>,
    /// What its Ingress asks for besides.
    pub policy: Policy,
}

/// The Ingress a route came from, displayed as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IngressId {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl fmt::Display for IngressId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A route and the place it holds in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The host of its rule.
    pub host: HostPattern,
    /// Where it stands among that host's rules.
    pub place: Place<'a>,
    /// The route.
    pub route: &'a Arc<Route>,
}

/// Where a route stands among the rules of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A rule's path.
    Path(&'a PathPattern),
    /// `defaultBackend` of an Ingress that names the host.
    HostDefault,
    /// `defaultBackend` of an Ingress without rules.
    Otherwise,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(pattern) => write!(f, "{} {pattern}", pattern.kind()),
            Self::HostDefault | Self::Otherwise => f.write_str("default"),
        }
    }
}

/// What one host's rules say.
#[derive(Debug, Default, PartialEq, Eq)]
struct HostTable {
    paths: PathTable,
    default: Option<Arc<Route>>,
    losers: Box<[Loser]>,
    certificates: Option<HostCertificates>,
    /// Who may connect for it: whoever has a certificate that these authorities vouch for.
    clients: Option<Arc<ClientTrust>>,
}

impl HostTable {
    fn entries(&self, host: HostPattern) -> impl Iterator<Item = Entry<'_>> {
        let paths = self.paths.rules().iter().map(|rule| (Place::Path(&rule.pattern), &rule.route));
        let default = self.default.iter().map(|route| (Place::HostDefault, route));
        paths.chain(default).map(move |(place, route)| Entry { host: host.clone(), place, route })
    }
}

/// A route that an older one keeps out of its place: for `explain` alone.
#[derive(Debug, PartialEq, Eq)]
struct Loser {
    /// `None`: a default backend.
    pattern: Option<PathPattern>,
    route: Arc<Route>,
    winner: Arc<Route>,
}
