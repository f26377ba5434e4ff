//! Service ports into backends: which addresses to dial, what the EndpointSlices say, or why there is nothing to dial. Each backend once.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{
    Diagnostic, Options,
    annotations::{Dial, read_service},
    endpoints, external,
    incremental::Services,
    index::Index,
    parse::PortRef,
};
use crate::route::{Backend, BackendId, Endpoints, Target};

/// `appProtocol` values that this version can't speak: TLS to the backend, HTTP/2 without TLS.
const UNSUPPORTED: [&str; 10] = ["https", "wss", "kubernetes.io/wss", "tls", "h2", "http2", "h2c", "kubernetes.io/h2c", "grpc", "grpcs"];

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
    dial: Option<Dial>,
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

    /// The backend for a Service port. `dial` is what the Ingress asks for, which goes before what the Service asks for.
    pub(super) fn service(&mut self, namespace: &Arc<str>, service: &'a str, port: PortRef<'a>, dial: Option<Dial>) -> Made {
        let key = Key { namespace: Arc::clone(namespace), service, port, dial };
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let id = BackendId { namespace: Arc::clone(namespace), service: self.name(service), port: self.port(port) };
        let mut findings = Vec::new();
        let (backend, problem) = match resolve(self.index, self.options, &id, port, dial, &mut findings) {
            Ok((target, endpoints)) => (Backend { id, target, endpoints }, None),
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
    Backend { id, target: Target::Unavailable(Arc::from(why)), endpoints: Endpoints::Unknown }
}

fn resolve(
    index: &Index<'_>,
    options: &Options,
    id: &BackendId,
    port: PortRef<'_>,
    dial: Option<Dial>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(Target, Endpoints), Problem> {
    let Some(service) = index.services.get(&(&*id.namespace, &*id.service)) else {
        let message = format!("there is no Service {}/{}", id.namespace, id.service);
        return Err(problem("unknown_service", ".service.name", message, "create it, or correct the name"));
    };
    let no_spec = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&no_spec);
    if spec.type_.as_deref() == Some("ExternalName") {
        return Ok((external_name(options, id, spec, port)?, Endpoints::Unknown));
    }
    let service_port = find_port(id, spec, port)?;
    check_protocol(id, service_port)?;
    let endpoints = match index.slices.get(&(&*id.namespace, &*id.service)) {
        Some(slices) => Endpoints::Known(endpoints::addresses(slices, service_port, diagnostics)),
        None if options.endpoints_authoritative => Endpoints::Known(Arc::from([])),
        None => Endpoints::Unknown,
    };
    let dial = dial.or(read_service(service, diagnostics)).unwrap_or(Dial::ClusterIp);
    Ok((target(id, service, spec, service_port, dial, &endpoints)?, endpoints))
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

/// `http`, `kubernetes.io/ws` and whatever nobody knows are HTTP/1.1 over plain TCP, as an absent `appProtocol` is.
fn check_protocol(id: &BackendId, port: &ServicePort) -> Result<(), Problem> {
    let protocol = port.app_protocol.as_deref().unwrap_or_default().to_ascii_lowercase();
    if !UNSUPPORTED.contains(&protocol.as_str()) {
        return Ok(());
    }
    let message =
        format!("Service {}/{} port {} has appProtocol `{protocol}`, which this version can't speak", id.namespace, id.service, port.port);
    Err(problem("unsupported_protocol", ".service.port", message, "offer plain HTTP/1.1 on another port"))
}

fn external_name(options: &Options, id: &BackendId, spec: &ServiceSpec, port: PortRef<'_>) -> Result<Target, Problem> {
    let name = spec.external_name.as_deref().unwrap_or_default();
    let host = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let service = format!("Service {}/{}", id.namespace, id.service);
    if host.is_empty() || host.bytes().any(|b| !b.is_ascii_graphic()) {
        let message = format!("{service} has the externalName `{name}`, which is no name");
        return Err(problem("bad_external_name", ".service.name", message, "write a DNS name"));
    }
    if let Some(why) = external::refusal(&host, &id.namespace).filter(|_| !options.allow_unsafe_external) {
        let message = format!("{service} has the externalName `{host}`, which {why}");
        return Err(problem("refused_external_name", ".service.name", message, "name another host, or run with --allow-unsafe-external"));
    }
    let number = match port {
        // The Service of a name outside need not list its ports.
        PortRef::Number(number) => number,
        PortRef::Name(_) => {
            let port = find_port(id, spec, port)?;
            check_protocol(id, port)?;
            u16::try_from(port.port).map_err(|_| problem("unknown_port", ".service.port", format!("{service}: bad port"), "correct it"))?
        }
    };
    Ok(Target::Dns { host: Arc::from(host), port: number })
}

fn problem(code: &'static str, field: &'static str, message: String, help: impl Into<String>) -> Problem {
    Problem { code, field, message, help: help.into() }
}
