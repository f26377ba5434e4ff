//! Service ports into backends: what to speak, which addresses to dial, what the EndpointSlices say, or why there is nothing to dial. Each backend once.

mod protocol;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{
    Diagnostic, Options,
    annotations::{Dealings, Dial, read_service},
    certificates::Certificates,
    endpoints, external,
    incremental::Services,
    index::Index,
    parse::PortRef,
};
use crate::{
    certificate::Offer,
    route::{Backend, BackendId, Endpoints, Protocol, Target},
};

/// The backends of a snapshot, made on demand: one for each Service port and way of dialling it.
pub(super) struct Backends<'a> {
    index: &'a Index<'a>,
    options: &'a Options,
    earlier: &'a Services,
    made: HashMap<Key<'a>, Made, RandomState>,
    /// Service names and ports, which many backends share.
    names: HashMap<Box<str>, Arc<str>, RandomState>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    namespace: Arc<str>,
    service: &'a str,
    port: PortRef<'a>,
    dealings: Dealings<'a>,
}

/// A backend, and what is wrong with it.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) backend: Arc<Backend>,
    pub(super) problem: Option<Arc<Problem>>,
    /// What is wrong with its Service or EndpointSlices besides.
    pub(super) findings: Option<Arc<[Diagnostic]>>,
}

/// Why a Service port can't be dialled. Every Ingress path that leads there is told.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    /// Below the path's `backend`.
    pub(super) field: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

impl<'a> Backends<'a> {
    pub(super) fn new(index: &'a Index<'a>, options: &'a Options, earlier: &'a Services) -> Self {
        Self { index, options, earlier, made: HashMap::default(), names: HashMap::default() }
    }

    /// The backend for a Service port. `dealings` are what the Ingress asks for, which goes before what the Service asks for.
    pub(super) fn service(
        &mut self,
        namespace: &Arc<str>,
        service: &'a str,
        port: PortRef<'a>,
        dealings: Dealings<'a>,
        secrets: &mut Certificates<'_>,
    ) -> Made {
        let key = Key { namespace: Arc::clone(namespace), service, port, dealings };
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let id = BackendId { namespace: Arc::clone(namespace), service: self.name(service), port: self.port(port) };
        let mut findings = Vec::new();
        let (backend, problem) = match resolve(self.index, self.options, &id, port, dealings, secrets, &mut findings) {
            Ok(Resolved { protocol, target, endpoints }) => (Backend { id, protocol, target, endpoints }, None),
            Err(problem) => (unavailable(id, &problem.message), Some(Arc::new(problem))),
        };
        let backend = self.earlier.earlier(&backend).unwrap_or_else(|| Arc::new(backend));
        let findings = (!findings.is_empty()).then(|| findings.into());
        let made = Made { backend, problem, findings };
        self.made.insert(key, made.clone());
        made
    }

    /// All that were asked for.
    pub(super) fn all(self) -> Vec<Arc<Backend>> {
        self.made.into_values().map(|made| made.backend).collect()
    }

    fn port(&mut self, port: PortRef<'_>) -> Arc<str> {
        match port {
            PortRef::Name(name) => self.name(name),
            PortRef::Number(number) => self.name(&number.to_string()),
        }
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = Arc::from(name);
        self.names.insert(Box::from(name), Arc::clone(&shared));
        shared
    }
}

/// A backend that answers 503.
pub(super) fn unavailable(id: BackendId, why: &str) -> Backend {
    Backend { id, protocol: Protocol::Http1, target: Target::Unavailable(Arc::from(why)), endpoints: Endpoints::Unknown }
}

/// A backend but for its identity.
struct Resolved {
    protocol: Protocol,
    target: Target,
    endpoints: Endpoints,
}

fn resolve(
    index: &Index<'_>,
    options: &Options,
    id: &BackendId,
    port: PortRef<'_>,
    dealings: Dealings<'_>,
    secrets: &mut Certificates<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Resolved, Problem> {
    let Some(service) = index.services.get(&(&*id.namespace, &*id.service)) else {
        let message = format!("there is no Service {}/{}", id.namespace, id.service);
        return Err(problem("unknown_service", ".service.name", message, "create it, or correct the name"));
    };
    let no_spec = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&no_spec);
    let of_service = read_service(service, diagnostics).map_err(|why| {
        let message = format!("{}: {why}", service_text(id));
        problem("unknown_annotation", ".service.name", message, "correct the Service's annotations")
    })?;
    let spoken = |port| dealings.protocol.or(of_service.protocol).unwrap_or_else(|| protocol::unless_said(port, &dealings));
    if spec.type_.as_deref() == Some("ExternalName") {
        let (host, number, port) = external_name(options, id, spec, port)?;
        let protocol = protocol::resolve(spoken(port), &dealings, id, &host, secrets, options.tls)?;
        return Ok(Resolved { protocol, target: Target::Dns { host, port: number }, endpoints: Endpoints::Unknown });
    }
    let service_port = find_port(id, spec, port)?;
    let own_name = format!("{}.{}.svc", id.service, id.namespace);
    let protocol = protocol::resolve(spoken(Some(service_port)), &dealings, id, &own_name, secrets, options.tls)?;
    let endpoints = match index.slices.get(&(&*id.namespace, &*id.service)) {
        Some(slices) => Endpoints::Known(endpoints::addresses(slices, service_port, diagnostics)),
        None if options.endpoints_authoritative => Endpoints::Known(Arc::from([])),
        None => Endpoints::Unknown,
    };
    let dial = dealings.dial.or(of_service.dial).unwrap_or_else(|| usual_dial(&protocol, &endpoints));
    let target = target(id, service, spec, service_port, dial, &endpoints)?;
    Ok(Resolved { protocol, target, endpoints })
}

/// What is dialled where nobody says what. Behind a ClusterIP, kube-proxy chooses a pod for each connection: with all of a worker's requests on one
/// connection, one pod would get them all.
fn usual_dial(protocol: &Protocol, endpoints: &Endpoints) -> Dial {
    let multiplexes = match protocol {
        Protocol::Http1 => false,
        Protocol::H2c => true,
        Protocol::Tls(tls) => tls.offer != Offer::Http1,
    };
    match endpoints {
        Endpoints::Known(_) if multiplexes => Dial::Endpoints,
        Endpoints::Known(_) | Endpoints::Unknown => Dial::ClusterIp,
    }
}

/// Whether to dial the ClusterIP or the endpoints.
fn target(
    id: &BackendId,
    service: &Service,
    spec: &ServiceSpec,
    port: &ServicePort,
    dial: Dial,
    endpoints: &Endpoints,
) -> Result<Target, Problem> {
    let addresses = cluster_addresses(spec, port);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if dial == Dial::ClusterIp && !addresses.is_empty() {
        return Ok(Target::ClusterIp(addresses));
    }
    match endpoints {
        Endpoints::Known(_) => Ok(Target::Endpoints),
        Endpoints::Unknown if dial == Dial::ClusterIp && !headless => {
            let message = format!("Service {}/{} has no clusterIP, and no EndpointSlice was given", id.namespace, id.service);
            Err(problem("no_address", ".service.name", message, "write `clusterIP:` in the Service, or an EndpointSlice for it"))
        }
        Endpoints::Unknown => {
            let why = if headless { "is headless" } else { "is to be dialled by its endpoints" };
            let message = format!("Service {}/{} {why}, and no EndpointSlice was given", id.namespace, id.service);
            let help =
                format!("write an EndpointSlice with the label `kubernetes.io/service-name: {}`", super::index::name(&service.metadata));
            Err(problem("no_address", ".service.name", message, help))
        }
    }
}

/// The ClusterIPs with the port, one for each IP family; none for a headless Service, and for one that was never in a cluster.
fn cluster_addresses(spec: &ServiceSpec, port: &ServicePort) -> Arc<[SocketAddr]> {
    let Ok(number) = u16::try_from(port.port) else { return Arc::from([]) };
    let listed = spec.cluster_ips.as_deref().filter(|listed| !listed.is_empty());
    let all = listed.map_or_else(|| spec.cluster_ip.iter().collect::<Vec<_>>(), |listed| listed.iter().collect());
    all.into_iter().filter_map(|ip| ip.parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, number)).collect()
}

fn find_port<'s>(id: &BackendId, spec: &'s ServiceSpec, wanted: PortRef<'_>) -> Result<&'s ServicePort, Problem> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let tcp = |port: &&ServicePort| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let is_wanted = |port: &&ServicePort| match wanted {
        PortRef::Number(number) => port.port == i32::from(number),
        PortRef::Name(name) => port.name.as_deref() == Some(name),
    };
    ports.iter().filter(tcp).find(is_wanted).ok_or_else(|| {
        let listed: Vec<String> = ports.iter().filter(tcp).map(port_text).collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        let message = format!("Service {}/{} has no TCP port `{}`", id.namespace, id.service, id.port);
        problem("unknown_port", ".service.port", message, format!("its TCP ports: {listed}"))
    })
}

fn port_text(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    }
}

fn external_name<'s>(
    options: &Options,
    id: &BackendId,
    spec: &'s ServiceSpec,
    port: PortRef<'_>,
) -> Result<(Arc<str>, u16, Option<&'s ServicePort>), Problem> {
    let name = spec.external_name.as_deref().unwrap_or_default();
    let host = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let service = service_text(id);
    if host.is_empty() || host.bytes().any(|b| !b.is_ascii_graphic()) {
        let message = format!("{service} has the externalName `{name}`, which is no name");
        return Err(problem("bad_external_name", ".service.name", message, "write a DNS name"));
    }
    if let Some(why) = external::refusal(&host, &id.namespace).filter(|_| !options.allow_unsafe_external) {
        let message = format!("{service} has the externalName `{host}`, which {why}");
        return Err(problem("refused_external_name", ".service.name", message, "name another host, or run with --allow-unsafe-external"));
    }
    let (number, port) = match port {
        // The Service of a name outside need not list its ports.
        PortRef::Number(number) => (number, find_port(id, spec, port).ok()),
        PortRef::Name(_) => {
            let port = find_port(id, spec, port)?;
            let number = u16::try_from(port.port);
            (number.map_err(|_| problem("unknown_port", ".service.port", format!("{service}: bad port"), "correct it"))?, Some(port))
        }
    };
    Ok((Arc::from(host), number, port))
}

fn service_text(id: &BackendId) -> String {
    format!("Service {}/{}", id.namespace, id.service)
}

fn problem(code: &'static str, field: &'static str, message: String, help: impl Into<String>) -> Problem {
    Problem { code, field, message, help: help.into() }
}
