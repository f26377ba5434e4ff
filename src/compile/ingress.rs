//! The Ingresses that are ours, the oldest first, into the route table.

mod admission;
mod pattern;
mod tls;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::Arc,
};

use foldhash::fast::RandomState;

use admission::Admission;

use super::{
    Diagnostic, Earlier, Findings, HostOwnership, Options, Subject,
    annotations::{self, IngressAnnotations},
    backend::{self, Backends},
    certificates::{Certificates, Looked},
    class::Origin,
    index::{Index, IndexedIngress},
    options,
    parse::{self, BackendRef, Parsed, Path, PathKind, Rule},
};
use crate::route::{Backend, BackendId, Builder, HostPattern, IngressId, PathPattern, Policy, Route, Snapshot};

/// The table in the making.
pub(super) struct Compiler<'a> {
    options: &'a Options,
    backends: Backends<'a>,
    certificates: Certificates<'a>,
    table: Builder,
    /// The namespace of the oldest Ingress that names a host.
    owners: HashMap<HostPattern, Arc<str>, RandomState>,
    /// Each expression is compiled once, however many paths have it.
    expressions: HashMap<&'a str, Result<PathPattern, pattern::BadPattern>, RandomState>,
    /// Hosts of expressions in force, and where those were written: the Ingress's position, and the place in it.
    expression_hosts: Vec<(HostPattern, usize, Subject)>,
}

/// What comes of it.
pub(super) struct Finished {
    pub(super) snapshot: Snapshot,
    pub(super) backends: Vec<Arc<Backend>>,
    pub(super) secrets: Looked,
    /// What is wrong with Ingresses, by their positions, and was seen only when all were there.
    pub(super) late: Vec<(usize, Diagnostic)>,
    /// What is wrong with what belongs to no Ingress.
    pub(super) general: Vec<Diagnostic>,
}

/// One Ingress on its way into the table.
struct Current<'a, 'd> {
    position: usize,
    id: Arc<IngressId>,
    annotations: IngressAnnotations<'a>,
    /// The Services that only certain clients may reach, if it asks for any.
    protected: Vec<&'a str>,
    /// Its routes so far, one for each backend and policy.
    routes: HashMap<(*const Backend, Admission), Arc<Route>, RandomState>,
    findings: &'d mut Findings,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(index: &'a Index<'a>, options: &'a Options, earlier: &'a Earlier) -> Self {
        Self {
            options,
            backends: Backends::new(index, options, &earlier.services),
            certificates: Certificates::new(index, &earlier.secrets),
            table: Builder::default(),
            owners: HashMap::default(),
            expressions: HashMap::default(),
            expression_hosts: Vec::new(),
        }
    }

    /// Adds one Ingress. Those added before it keep their places.
    pub(super) fn ingress(&mut self, position: usize, ingress: &IndexedIngress<'a>, origin: Origin, findings: &mut Findings) {
        let Parsed { default, rules, has_rules, tls } = parse::parse(ingress.object, &ingress.id, &mut findings.own);
        let mut annotations = annotations::read_ingress(ingress, self.options.https, &mut findings.own);
        annotations::read_foreign(ingress, origin, &mut annotations, &mut findings.own);
        let protected = if annotations.client_ca_secret.is_some() { admission::protected(&rules, default) } else { Vec::new() };
        let mut current = Current { position, id: Arc::clone(&ingress.id), annotations, protected, routes: HashMap::default(), findings };
        self.find_clients(&mut current);
        current.findings.refuses = current.annotations.refusal.is_some();
        let options = self.options;
        if !tls.is_empty() && options.tls == options::Tls::NotServed {
            let message = "TLS isn't served here: its hosts are routed over plain HTTP alone";
            current.warn("tls_not_served", "spec.tls", message, "end TLS in front of this proxy, or start it with --https");
        }
        let default = default.map(|backend| self.route(&mut current, backend, Admission::Usual, &"spec.defaultBackend"));
        if has_rules {
            let mut routed = Vec::new();
            for rule in &rules {
                if self.rule(&mut current, rule, default.as_ref()) {
                    routed.push(rule.host.clone());
                }
            }
            for tls in tls.iter().filter(|_| options.tls == options::Tls::Served) {
                self.tls(&mut current, tls, &routed);
            }
        } else if let Some(route) = &default {
            if let Err(winner) = self.table.otherwise(route) {
                current.conflict("spec.defaultBackend", "the default backend for all hosts", &winner);
            }
            self.clients(&mut current, "spec.defaultBackend", &HostPattern::Any);
        }
    }

    /// The table of all that was added, and what it is made of. An expression behind the prefix `/` of its own host, whoever wrote it, never gets its turn:
    /// said here.
    pub(super) fn finish(self) -> Finished {
        let Self { mut table, expression_hosts, backends, mut certificates, options, .. } = self;
        let mut late = Vec::new();
        for (host, position, subject) in expression_hosts.into_iter().filter(|(host, ..)| table.holds(host, &PathPattern::prefix("/"))) {
            let message = format!("prefixes go before expressions, and {} has the prefix /: this one is never reached", host_text(&host));
            let help = "make the path / an expression too (ImplementationSpecific)";
            late.push((position, Diagnostic::warning("unreachable_expression", subject, message, help)));
        }
        let general = tls::default_certificate(options, &mut certificates, &mut table).into_iter().collect();
        Finished { snapshot: table.build(), backends: backends.all(), secrets: certificates.all(), late, general }
    }

    /// Whether the host is this Ingress's to route.
    fn rule(&mut self, current: &mut Current<'a, '_>, rule: &Rule<'a>, default: Option<&Arc<Route>>) -> bool {
        let Rule { index, host, paths } = rule;
        if let Err(owner) = self.own(host, &current.id) {
            let message = format!("`{host}` belongs to the namespace {owner}, whose Ingress is older; the rule is not in force");
            current.error(
                "host_owned",
                format!("spec.rules[{index}].host"),
                message,
                "use another host, or run without --host-ownership namespace",
            );
            return false;
        }
        for path in paths {
            self.path(current, host, path);
        }
        self.clients(current, &format!("spec.rules[{index}].host"), host);
        match default {
            Some(route) => {
                if let Err(winner) = self.table.host_default(host, route)
                    // A host may stand in several rules of one Ingress.
                    && !Arc::ptr_eq(&winner, route)
                {
                    current.conflict("spec.defaultBackend", &format!("the default backend of {}", host_text(host)), &winner);
                }
            }
            None if paths.is_empty() => {
                let field = format!("spec.rules[{index}]");
                current.warn(
                    "rule_without_paths",
                    field,
                    "it has no path in force, and there is no defaultBackend",
                    "add a path, or a defaultBackend",
                );
            }
            None => {}
        }
        true
    }

    fn path(&mut self, current: &mut Current<'a, '_>, host: &HostPattern, path: &Path<'a>) {
        let Path { field, kind, text, backend } = path;
        let admission = current.admission(text, *backend);
        let route = self.route(current, *backend, admission, &format_args!("{field}.backend"));
        let is_expression = *kind == PathKind::ImplementationSpecific && current.annotations.use_regex;
        let pattern = if is_expression { self.expression(text) } else { pattern::literal(*kind, text) };
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err((code, why)) => {
                let message = format!("`{text}` {why}; the path is not in force");
                let help = if is_expression { "see docs.rs/regex for the syntax" } else { "write the path as a request would have it" };
                current.error(code, format!("{field}.path"), message, help);
                return;
            }
        };
        match self.table.path(host, &pattern, &route) {
            Err(winner) => {
                let place = format!("{} {pattern} of {}", pattern.kind(), host_text(host));
                current.conflict(format!("{field}.path"), &place, &winner);
            }
            Ok(()) if is_expression => {
                let subject = Subject::ingress(&current.id, format!("{field}.path"));
                self.expression_hosts.push((host.clone(), current.position, subject));
            }
            Ok(()) => {}
        }
    }

    fn expression(&mut self, source: &'a str) -> Result<PathPattern, pattern::BadPattern> {
        self.expressions.entry(source).or_insert_with(|| pattern::expression(source)).clone()
    }

    /// The route to a backend, and a diagnostic if it has only 503 for an answer.
    fn route(
        &mut self,
        current: &mut Current<'a, '_>,
        backend: BackendRef<'a>,
        admission: Admission,
        field: &dyn fmt::Display,
    ) -> Arc<Route> {
        let namespace = Arc::clone(&current.id.namespace);
        let mut of_service = None;
        let backend = match backend {
            BackendRef::Service { name, port } => {
                let made = self.backends.service(&namespace, name, port, current.annotations.dealings, &mut self.certificates);
                of_service = made.findings;
                if let Some(problem) = &made.problem {
                    let message = format!("{}; this path answers 503", problem.message);
                    current.error(problem.code, format!("{field}{}", problem.field), message, problem.help.as_str());
                }
                made.backend
            }
            BackendRef::Resource { kind, name } => {
                current.error(
                    "resource_backend",
                    format!("{field}.resource"),
                    "resource backends are not supported; this path answers 503",
                    "name a Service",
                );
                nothing(namespace, &format!("{kind}/{name}"), "a resource backend, which is not supported")
            }
            BackendRef::Invalid => nothing(namespace, "(none)", "the backend of the rule makes no sense"),
        };
        let backend = match &current.annotations.refusal {
            Some(why) => Arc::new(backend::unavailable(backend.id.clone(), why)),
            None => backend,
        };
        let Current { id, annotations, routes, findings, .. } = current;
        let route = routes.entry((Arc::as_ptr(&backend), admission)).or_insert_with(|| {
            findings.of_services.extend(of_service);
            let policy = Policy { admits_challenges: admission == Admission::Challenges, ..annotations.policy.clone() };
            Arc::new(Route { ingress: Arc::clone(id), backend, policy })
        });
        Arc::clone(route)
    }

    /// Takes a host for a namespace, where hosts are owned.
    ///
    /// # Errors
    /// The namespace that owns it already.
    fn own(&mut self, host: &HostPattern, id: &IngressId) -> Result<(), Arc<str>> {
        match self.options.host_ownership {
            HostOwnership::Shared => return Ok(()),
            HostOwnership::Namespace => {}
        }
        if *host == HostPattern::Any {
            return Ok(());
        }
        let other = |owner: &&Arc<str>| **owner != id.namespace;
        if let Some(owner) = host.wildcard_above().and_then(|wildcard| self.owners.get(&wildcard)).filter(other) {
            return Err(Arc::clone(owner));
        }
        match self.owners.entry(host.clone()) {
            Entry::Occupied(owner) if other(&owner.get()) => Err(Arc::clone(owner.get())),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(free) => {
                free.insert(Arc::clone(&id.namespace));
                Ok(())
            }
        }
    }
}

impl Current<'_, '_> {
    fn error(&mut self, code: &'static str, field: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.findings.own.push(Diagnostic::error(code, Subject::ingress(&self.id, field), message, help));
    }

    fn warn(&mut self, code: &'static str, field: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.findings.own.push(Diagnostic::warning(code, Subject::ingress(&self.id, field), message, help));
    }

    fn conflict(&mut self, field: impl Into<String>, place: &str, winner: &Route) {
        let message = if *winner.ingress == *self.id {
            format!("{place} stands in this Ingress already; the first one is in force")
        } else {
            format!("{place} belongs to Ingress {}, which is older (or first by name); this one is not in force", winner.ingress)
        };
        self.error("conflict", field, message, "remove one of the two");
    }
}

fn host_text(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "all hosts".to_owned(),
        HostPattern::Exact(_) | HostPattern::Wildcard(_) => host.to_string(),
    }
}

fn nothing(namespace: Arc<str>, service: &str, why: &str) -> Arc<Backend> {
    Arc::new(backend::unavailable(BackendId { namespace, service: Arc::from(service), port: Arc::from("") }, why))
}
