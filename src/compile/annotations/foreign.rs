//! Annotations of ingress-nginx and Traefik. None is honoured in this version: each Ingress that has some is told so, and what protects
//! fails closed where the class was taken over from the controller that would have honoured it; what encrypts, in any case.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{Diagnostic, Subject, class::Origin, index::IndexedIngress},
    IngressAnnotations,
};

/// Another controller's annotations.
struct Family {
    title: &'static str,
    prefix: &'static str,
    origin: Origin,
    /// Whether an annotation (less its prefix) may keep somebody out. Snippets may: nobody can tell without running them.
    protects: fn(name: &str, value: &str) -> bool,
    /// Whether one asks for what there is anyway, which is nothing to speak of.
    asks_nothing: fn(name: &str, value: &str) -> bool,
    /// Whether one asks for TLS to the backend.
    encrypts: fn(name: &str, value: &str) -> bool,
}

const FAMILIES: [Family; 2] = [
    Family {
        title: "ingress-nginx",
        prefix: "nginx.ingress.kubernetes.io/",
        origin: Origin::IngressNginx,
        protects: nginx_protects,
        asks_nothing: nginx_asks_nothing,
        encrypts: nginx_encrypts,
    },
    Family {
        title: "Traefik",
        prefix: "traefik.ingress.kubernetes.io/",
        origin: Origin::Traefik,
        protects: traefik_protects,
        asks_nothing: |_, _| false,
        encrypts: |_, _| false,
    },
];

/// Says what is not honoured. An annotation that protects among it makes every path of the Ingress answer 503; one that encrypts, what isn't encrypted.
pub(in super::super) fn read(
    ingress: &IndexedIngress<'_>,
    origin: Origin,
    read: &mut IngressAnnotations<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(annotations) = &ingress.object.metadata.annotations else { return };
    for family in &FAMILIES {
        let (protecting, others) = split(family, annotations);
        // Whoever adopts an Ingress can't know who honoured its annotations until now.
        let taken_over = origin == family.origin || origin == Origin::Unknown;
        let subject = || Subject::ingress(&ingress.id, "metadata.annotations");
        if taken_over && !protecting.is_empty() {
            let message = format!("{} not supported in this version, and may keep somebody out", list(family, &protecting));
            let help = "every path of this Ingress answers 503 until the annotation is removed";
            diagnostics.push(Diagnostic::error("unsupported_protection", subject(), message.as_str(), help));
            read.refusal.get_or_insert_with(|| Arc::from(message));
        }
        // Whosever class it is by now: what speaks TLS understands nothing else.
        read.dealings.encrypted_elsewhere |= named(family, annotations).any(|(_, name, value)| (family.encrypts)(name, value));
        let ignored = if taken_over { others } else { [protecting, others].concat() };
        if !ignored.is_empty() {
            let message = format!("{} not honoured in this version", list(family, &ignored));
            diagnostics.push(Diagnostic::warning("unsupported_annotation", subject(), message, "remove what you don't need"));
        }
    }
}

/// A family's annotations: all of each, its name less the prefix, its value.
fn named<'a>(family: &Family, annotations: &'a BTreeMap<String, String>) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let prefix = family.prefix;
    annotations.iter().filter_map(move |(key, value)| Some((key.as_str(), key.strip_prefix(prefix)?, value.as_str())))
}

/// A family's annotations: those that protect, and the others.
fn split<'a>(family: &Family, annotations: &'a BTreeMap<String, String>) -> (Vec<&'a str>, Vec<&'a str>) {
    let of_family = named(family, annotations).filter(|(_, name, value)| !(family.asks_nothing)(name, value));
    let (mut protecting, mut others) = (Vec::new(), Vec::new());
    for (key, name, value) in of_family {
        if (family.protects)(name, value) { protecting.push(key) } else { others.push(key) }
    }
    (protecting, others)
}

fn nginx_protects(name: &str, _value: &str) -> bool {
    let whole = ["whitelist-source-range", "allowlist-source-range", "denylist-source-range", "satisfy", "enable-owasp-core-rules"];
    name.starts_with("auth-")
        || name.starts_with("modsecurity-")
        || name == "enable-modsecurity"
        || name.ends_with("-snippet")
        || whole.contains(&name)
}

/// Everybody is let in: as the Ingresses have it that cert-manager makes for its challenges, in case that there is a stricter default.
fn nginx_asks_nothing(name: &str, value: &str) -> bool {
    let has = |wanted: &str| value.split(',').any(|range| range.trim() == wanted);
    matches!(name, "whitelist-source-range" | "allowlist-source-range") && has("0.0.0.0/0") && has("::/0")
}

/// With `ssl-passthrough` it is the client's own TLS that the backend gets.
fn nginx_encrypts(name: &str, value: &str) -> bool {
    match name {
        // AUTO_HTTP: as the client has come, which may be so.
        "backend-protocol" => ["https", "grpcs", "auto_http"].iter().any(|tls| value.trim().eq_ignore_ascii_case(tls)),
        // As Go's ParseBool has it.
        "ssl-passthrough" => matches!(value, "1" | "t" | "T" | "true" | "True" | "TRUE"),
        _ => false,
    }
}

fn traefik_protects(name: &str, value: &str) -> bool {
    match name {
        "router.middlewares" | "router.tls.options" => true,
        // `web` and `websecure` are the public ones; an Ingress on another entry point may be meant for a private address alone.
        "router.entrypoints" => !value.split(',').all(|entry| matches!(entry.trim(), "web" | "websecure")),
        _ => false,
    }
}

/// `Traefik's annotation a is` or `Traefik's annotations a, b are`.
fn list(family: &Family, names: &[&str]) -> String {
    match names {
        [one] => format!("{}'s annotation {one} is", family.title),
        several => format!("{}'s annotations {} are", family.title, several.join(", ")),
    }
}
