//! One Ingress: what it names, by which it has to do with others, and what came of it.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;

use super::{
    super::{
        Findings, HostOwnership, Options, index,
        parse::{self, BackendRef, Parsed},
        secrets_named,
    },
    tracked::Name,
};
use crate::route::{HostPattern, IngressId};

/// One Ingress, and what came of it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: Arc<IngressId>,
    pub(super) hosts: Box<[HostPattern]>,
    /// The wildcards above its hosts, where hosts are owned.
    pub(super) above: Box<[HostPattern]>,
    pub(super) services: Box<[Name]>,
    pub(super) secrets: Box<[Name]>,
    pub(super) accepted: bool,
    pub(super) findings: Findings,
}

/// An Ingress with the hosts and Services that it names, each once.
pub(super) fn names(object: &Ingress, options: &Options) -> Known {
    let (namespace, name) = index::key(&object.metadata);
    let id = IngressId { namespace: Arc::from(namespace), name: Arc::from(name) };
    let Parsed { default, rules, has_rules, tls } = parse::parse(object, &id, &mut Vec::new());
    let mut hosts: Vec<HostPattern> = rules.iter().map(|rule| rule.host.clone()).collect();
    if default.is_some() && !has_rules {
        hosts.push(HostPattern::Any);
    }
    hosts.extend(tls.iter().filter_map(|tls| tls.hosts.as_ref()).flatten().cloned());
    let mut secrets: Vec<&str> = secrets_named(object).collect();
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
    secrets.sort_unstable();
    secrets.dedup();
    let here = |names: Vec<&str>| -> Box<[Name]> {
        names.into_iter().map(|name| Name { namespace: Arc::clone(&id.namespace), name: Arc::from(name) }).collect()
    };
    let (services, secrets) = (here(services), here(secrets));
    Known { id: Arc::new(id), hosts: hosts.into(), above: above.into(), services, secrets, accepted: false, findings: Findings::default() }
}
