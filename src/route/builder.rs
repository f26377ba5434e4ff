//! Building a [`Snapshot`]: whoever comes first holds a place, and who comes too late is remembered for `explain`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    HostCertificates, HostPattern, HostTable, IngressId, Loser, PathPattern, Precedent, Route, Snapshot,
    certificates::Gathered,
    path::{PathTable, Rule},
};
use crate::certificate::{Certificate, ClientTrust};

/// Collects routes, the oldest Ingress first.
#[derive(Debug, Default)]
pub struct Builder {
    hosts: HashMap<HostPattern, Host, RandomState>,
    default: Option<Arc<Route>>,
    losers: Vec<Loser>,
    default_certificate: Option<Arc<HostCertificates>>,
}

#[derive(Debug, Default)]
struct Host {
    rules: BTreeMap<PathPattern, Arc<Route>>,
    default: Option<Arc<Route>>,
    losers: Vec<Loser>,
    certificates: Gathered,
    clients: Option<(Arc<ClientTrust>, Arc<IngressId>)>,
    /// The first that routes it.
    owner: Option<Arc<IngressId>>,
}

impl Builder {
    /// Adds a path of a host.
    ///
    /// # Errors
    /// The route that already holds this very host, type and path. The new one is kept for `explain` alone.
    pub fn path(&mut self, host: &HostPattern, path: &PathPattern, route: &Arc<Route>) -> Result<(), Arc<Route>> {
        let host = self.host(host);
        host.owner.get_or_insert_with(|| Arc::clone(&route.ingress));
        if let Some(winner) = host.rules.get(path) {
            let winner = Arc::clone(winner);
            host.losers.push(Loser { pattern: Some(path.clone()), route: Arc::clone(route), winner: Arc::clone(&winner) });
            return Err(winner);
        }
        host.rules.insert(path.clone(), Arc::clone(route));
        Ok(())
    }

    /// Sets what answers those requests for a host that nothing else matches.
    ///
    /// # Errors
    /// The route that is already there.
    pub fn host_default(&mut self, host: &HostPattern, route: &Arc<Route>) -> Result<(), Arc<Route>> {
        let host = self.host(host);
        host.owner.get_or_insert_with(|| Arc::clone(&route.ingress));
        claim(&mut host.default, route, &mut host.losers)
    }

    /// Sets what answers every request that nothing else matches.
    ///
    /// # Errors
    /// The route that is already there.
    pub fn otherwise(&mut self, route: &Arc<Route>) -> Result<(), Arc<Route>> {
        claim(&mut self.default, route, &mut self.losers)
    }

    /// Gives a host a certificate.
    ///
    /// # Errors
    /// What has the say instead.
    pub fn certificate(&mut self, host: &HostPattern, certificate: &Arc<Certificate>, ingress: &Arc<IngressId>) -> Result<(), Precedent> {
        let host = self.host(host);
        match host.foreign_owner(ingress) {
            Some(owner) => Err(Precedent::Owner(owner)),
            None => host.certificates.add(certificate, ingress).map_err(Precedent::Certificate),
        }
    }

    /// Lets only such clients connect for a host.
    ///
    /// # Errors
    /// The Ingress that lets others, or that routes the host in another namespace, and has the say.
    pub fn clients(&mut self, host: &HostPattern, clients: &Arc<ClientTrust>, ingress: &Arc<IngressId>) -> Result<(), Arc<IngressId>> {
        let host = self.host(host);
        if let Some(owner) = host.foreign_owner(ingress) {
            return Err(owner);
        }
        let (first, owner) = host.clients.get_or_insert_with(|| (Arc::clone(clients), Arc::clone(ingress)));
        if first == clients { Ok(()) } else { Err(Arc::clone(owner)) }
    }

    /// Sets what connections get whose host has no certificate of its own.
    pub fn default_certificate(&mut self, certificate: Arc<Certificate>) {
        self.default_certificate = Some(Arc::new(HostCertificates::default_certificate(certificate)));
    }

    /// Whether a host has a path of this very type and text.
    pub fn holds(&self, host: &HostPattern, path: &PathPattern) -> bool {
        self.hosts.get(host).is_some_and(|host| host.rules.contains_key(path))
    }

    /// The finished table.
    pub fn build(self) -> Snapshot {
        let Self { hosts, default, losers, default_certificate } = self;
        let mut snapshot = Snapshot { default, losers: losers.into(), default_certificate, ..Snapshot::default() };
        for (pattern, host) in hosts {
            let Host { rules, default, losers, certificates, clients, owner: _ } = host;
            let clients = clients.map(|(clients, _)| clients);
            let rules = rules.into_iter().map(|(pattern, route)| Rule { pattern, route }).collect();
            let losers = losers.into_boxed_slice();
            let table = Arc::new(HostTable { paths: PathTable::new(rules), default, losers, certificates: certificates.finish(), clients });
            match pattern {
                HostPattern::Exact(name) => {
                    snapshot.exact.insert(name, table);
                }
                HostPattern::Wildcard(name) => {
                    snapshot.wildcard.insert(name, table);
                }
                HostPattern::Any => snapshot.any = table,
            }
        }
        snapshot
    }

    fn host(&mut self, host: &HostPattern) -> &mut Host {
        self.hosts.entry(host.clone()).or_default()
    }
}

impl Host {
    /// Whoever decides on certificates, where that is somebody of another namespace.
    fn foreign_owner(&self, ingress: &IngressId) -> Option<Arc<IngressId>> {
        self.owner.as_ref().filter(|owner| owner.namespace != ingress.namespace).cloned()
    }
}

fn claim(place: &mut Option<Arc<Route>>, route: &Arc<Route>, losers: &mut Vec<Loser>) -> Result<(), Arc<Route>> {
    match place {
        None => {
            *place = Some(Arc::clone(route));
            Ok(())
        }
        Some(winner) => {
            losers.push(Loser { pattern: None, route: Arc::clone(route), winner: Arc::clone(winner) });
            Err(Arc::clone(winner))
        }
    }
}
