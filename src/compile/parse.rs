//! What an Ingress says, parsed once into types: what the Kubernetes API would refuse yields an error here, and loses only itself.

use std::fmt;

use k8s_openapi::api::{
    core::v1::TypedLocalObjectReference,
    networking::v1::{
        HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
    },
};

use super::{Diagnostic, Subject};
use crate::{
    message::canonical_host,
    route::{BadHost, HostPattern, IngressId},
};

/// An Ingress's spec, as far as it makes sense.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub(super) default: Option<BackendRef<'a>>,
    pub(super) rules: Vec<Rule<'a>>,
    /// `spec.rules` holds something, whether or not it made sense.
    pub(super) has_rules: bool,
    pub(super) tls: Vec<Tls<'a>>,
}

/// `spec.tls[index]`.
#[derive(Debug)]
pub(super) struct Tls<'a> {
    pub(super) index: usize,
    /// `None` where it names no hosts, which means those of all rules.
    pub(super) hosts: Option<Vec<HostPattern>>,
    /// `None`: the default certificate.
    pub(super) secret: Option<&'a str>,
}

/// `spec.rules[index]`.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub(super) index: usize,
    pub(super) host: HostPattern,
    pub(super) paths: Vec<Path<'a>>,
}

/// One of a rule's paths.
#[derive(Debug)]
pub(super) struct Path<'a> {
    pub(super) field: PathField,
    pub(super) kind: PathKind,
    pub(super) text: &'a str,
    pub(super) backend: BackendRef<'a>,
}

/// Where a path stands, displayed as `spec.rules[0].http.paths[1]`: made into text only for a diagnostic.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathField {
    rule: usize,
    path: usize,
}

impl fmt::Display for PathField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spec.rules[{}].http.paths[{}]", self.rule, self.path)
    }
}

/// `pathType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathKind {
    Exact,
    Prefix,
    ImplementationSpecific,
}

/// What a path or `defaultBackend` leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendRef<'a> {
    Service {
        name: &'a str,
        port: PortRef<'a>,
    },
    Resource {
        kind: &'a str,
        name: &'a str,
    },
    /// No sense in it; a diagnostic has said so.
    Invalid,
}

/// `service.port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PortRef<'a> {
    Number(u16),
    Name(&'a str),
}

/// Parses the spec; pushes an error for whatever the API would refuse.
pub(super) fn parse<'a>(ingress: &'a Ingress, id: &IngressId, diagnostics: &mut Vec<Diagnostic>) -> Parsed<'a> {
    let mut parser = Parser { id, diagnostics };
    let Some(spec) = &ingress.spec else {
        parser.error("empty_ingress", "spec".to_owned(), "there is no spec", "give it rules or a defaultBackend");
        return Parsed { default: None, rules: Vec::new(), has_rules: false, tls: Vec::new() };
    };
    let IngressSpec { default_backend, ingress_class_name: _, rules, tls } = spec;
    let rules = rules.as_deref().unwrap_or_default();
    let tls = tls.as_deref().unwrap_or_default();
    if rules.is_empty() && default_backend.is_none() {
        parser.error("empty_ingress", "spec".to_owned(), "it has neither rules nor a defaultBackend", "give it one of them");
    }
    Parsed {
        default: default_backend.as_ref().map(|backend| parser.backend(backend, &"spec.defaultBackend")),
        rules: rules.iter().enumerate().filter_map(|(index, rule)| parser.rule(index, rule)).collect(),
        has_rules: !rules.is_empty(),
        tls: tls.iter().enumerate().map(|(index, tls)| parser.tls(index, tls)).collect(),
    }
}

struct Parser<'p> {
    id: &'p IngressId,
    diagnostics: &'p mut Vec<Diagnostic>,
}

impl Parser<'_> {
    fn error(&mut self, code: &'static str, field: String, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, Subject::ingress(self.id, field), message, help));
    }

    fn tls<'a>(&mut self, index: usize, tls: &'a IngressTLS) -> Tls<'a> {
        let IngressTLS { hosts, secret_name } = tls;
        let hosts = hosts.as_deref().unwrap_or_default();
        let parsed = hosts.iter().enumerate().filter_map(|(at, host)| self.tls_host(index, at, host)).collect();
        let hosts = (!hosts.is_empty()).then_some(parsed);
        Tls { index, hosts, secret: secret_name.as_deref().filter(|name| !name.is_empty()) }
    }

    fn tls_host(&mut self, index: usize, at: usize, host: &str) -> Option<HostPattern> {
        let problem = match host_pattern(host) {
            Ok(HostPattern::Any) => "is empty".to_owned(),
            Ok(pattern) => return Some(pattern),
            Err(bad) => bad.to_string(),
        };
        self.error("bad_host", format!("spec.tls[{index}].hosts[{at}]"), format!("`{host}` {problem}"), "write a DNS name");
        None
    }

    fn rule<'a>(&mut self, index: usize, rule: &'a IngressRule) -> Option<Rule<'a>> {
        let IngressRule { host, http } = rule;
        let paths = match http {
            Some(http) => {
                if http.paths.is_empty() {
                    let field = format!("spec.rules[{index}].http.paths");
                    self.error("no_paths", field, "there is no path", "add one, or leave out `http` to send the host to defaultBackend");
                }
                let paths = http.paths.iter().enumerate();
                paths.filter_map(|(at, path)| self.path(PathField { rule: index, path: at }, path)).collect()
            }
            None => Vec::new(),
        };
        let host = host.as_deref().unwrap_or_default();
        match host_pattern(host) {
            Ok(host) => Some(Rule { index, host, paths }),
            Err(bad) => {
                let field = format!("spec.rules[{index}].host");
                self.error(
                    "bad_host",
                    field,
                    format!("`{host}` {bad}; the rule is not in force"),
                    "write a DNS name, or none for all hosts",
                );
                None
            }
        }
    }

    fn path<'a>(&mut self, field: PathField, path: &'a HTTPIngressPath) -> Option<Path<'a>> {
        let HTTPIngressPath { backend, path, path_type } = path;
        let backend = self.backend(backend, &format_args!("{field}.backend"));
        let text = path.as_deref().unwrap_or_default();
        let kind = match path_type.as_str() {
            "Exact" => PathKind::Exact,
            "Prefix" => PathKind::Prefix,
            "ImplementationSpecific" => PathKind::ImplementationSpecific,
            other => {
                let message = if other.is_empty() { "it is missing".to_owned() } else { format!("`{other}` is no path type") };
                let help = "write Exact, Prefix or ImplementationSpecific";
                self.error("bad_path_type", format!("{field}.pathType"), format!("{message}; the path is not in force"), help);
                return None;
            }
        };
        let problem = path_problem(kind, text);
        if let Some(problem) = problem {
            let help = "write an absolute path, such as `/` or `/shop`";
            self.error("bad_path", format!("{field}.path"), format!("`{text}` {problem}; the path is not in force"), help);
            return None;
        }
        // Left out, which only ImplementationSpecific may: everything.
        let text = if text.is_empty() { "/" } else { text };
        Some(Path { field, kind, text, backend })
    }

    fn backend<'a>(&mut self, backend: &'a IngressBackend, field: &dyn fmt::Display) -> BackendRef<'a> {
        let IngressBackend { resource, service } = backend;
        match (service, resource) {
            (Some(IngressServiceBackend { name, port }), None) => self.service(name, port.as_ref(), field),
            (None, Some(TypedLocalObjectReference { api_group: _, kind, name })) => {
                if kind.is_empty() || name.is_empty() {
                    self.error("bad_backend", format!("{field}.resource"), "kind and name are required", "name a Service instead");
                    return BackendRef::Invalid;
                }
                BackendRef::Resource { kind, name }
            }
            (None, None) | (Some(_), Some(_)) => {
                let message = if service.is_some() { "it names both a service and a resource" } else { "it names no service" };
                self.error("bad_backend", field.to_string(), format!("{message}; this path answers 503"), "name a Service and its port");
                BackendRef::Invalid
            }
        }
    }

    fn service<'a>(&mut self, name: &'a str, port: Option<&'a ServiceBackendPort>, field: &dyn fmt::Display) -> BackendRef<'a> {
        if !is_dns_label(name) {
            let message = format!("`{name}` is no name a Service can have; this path answers 503");
            self.error("bad_backend", format!("{field}.service.name"), message, "name a Service");
            return BackendRef::Invalid;
        }
        let problem = match port.map(|ServiceBackendPort { name, number }| (name.as_deref().filter(|name| !name.is_empty()), *number)) {
            Some((Some(port), None | Some(0))) if is_port_name(port) => return BackendRef::Service { name, port: PortRef::Name(port) },
            Some((Some(port), None | Some(0))) => format!("`{port}` is no port name"),
            Some((Some(_), Some(_))) => "it has both a name and a number".to_owned(),
            Some((None, Some(number))) => match u16::try_from(number) {
                Ok(number) if number > 0 => return BackendRef::Service { name, port: PortRef::Number(number) },
                Ok(_) | Err(_) => format!("{number} is no port"),
            },
            Some((None, None)) | None => "it has neither a name nor a number".to_owned(),
        };
        let help = "write `number:` or `name:` of one of the Service's ports";
        self.error("bad_backend", format!("{field}.service.port"), format!("{problem}; this path answers 503"), help);
        BackendRef::Invalid
    }
}

/// A rule's host: what isn't ASCII becomes punycode by the very function that canonicalises a request's host.
fn host_pattern(text: &str) -> Result<HostPattern, BadHost> {
    if text.is_ascii() {
        return text.parse();
    }
    let (wildcard, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
    let name = canonical_host(name).map_err(|_| BadHost::Idna)?;
    format!("{wildcard}{name}").parse()
}

/// What the API's validation (`validateHTTPIngressPath`) refuses.
fn path_problem(kind: PathKind, path: &str) -> Option<&'static str> {
    match kind {
        PathKind::ImplementationSpecific if path.is_empty() => None,
        _ if !path.starts_with('/') => Some("is not absolute"),
        PathKind::ImplementationSpecific => None,
        PathKind::Exact | PathKind::Prefix => {
            if path.contains("//") {
                Some("has an empty element, which the API allows in ImplementationSpecific paths alone")
            } else if path.split('/').any(|element| element == "." || element == "..") {
                Some("has a dot segment")
            } else if path.contains("%2f") || path.contains("%2F") {
                Some("has an escaped slash, which the API allows in ImplementationSpecific paths alone")
            } else {
                None
            }
        }
    }
}

/// RFC 1123 label, in lower case as the API wants names.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// IANA service name (RFC 6335 section 5.1).
fn is_port_name(text: &str) -> bool {
    text.len() <= 15 && is_dns_label(text) && !text.contains("--") && text.bytes().any(|b| b.is_ascii_lowercase())
}
