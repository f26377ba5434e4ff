//! The table as stable text (the golden format, `/routes`, `nodegate routes`) and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Backend, Endpoints, Entry, HostCertificates, HostPattern, Place, Protocol, Snapshot, Target};

impl Snapshot {
    /// The table as text. Equal tables give equal text, whatever the order in which they were built.
    pub fn render(&self) -> String {
        let entries: Vec<Entry<'_>> = self.routes().collect();
        if entries.is_empty() {
            return "no routes\n".to_owned();
        }
        let mut text = String::with_capacity(entries.len() * 128);
        for of_one_host in entries.chunk_by(|a, b| heading(a) == heading(b)) {
            let width = of_one_host.iter().map(|entry| entry.place.to_string().len()).max().unwrap_or_default();
            if let Some(first) = of_one_host.first() {
                text.push_str(&heading(first));
                if let Some(certificates) = self.certificates_of(&first.host) {
                    let _ = write!(text, "  tls {certificates}");
                }
                text.push('\n');
            }
            for Entry { host: _, place, route } in of_one_host {
                let Backend { id, protocol, target, endpoints } = &*route.backend;
                // Writing to a String can't fail.
                let _ = write!(text, "  {:<width$}  {} -> {id}  {target}", place.to_string(), route.ingress);
                if shows_endpoints(target) {
                    let _ = write!(text, "; ready: {endpoints}");
                }
                if *protocol != Protocol::Http1 {
                    let _ = write!(text, "; {protocol}");
                }
                let _ = write!(text, "{}", route.policy);
                text.push('\n');
            }
        }
        text
    }

    /// The table as JSON: `{"routes": [{"host", "certificates", "type", "path", "ingress", "backend", "protocol", "https_only", "clients", "hsts",
    /// "target", "addresses", "problem", "endpoints"}]}`, in the order of
    /// [`Snapshot::routes`]. `host` is null for rules without one, `path` for default backends, `endpoints` where they are unknown.
    pub fn render_json(&self) -> String {
        let routes: Vec<Value> = self.routes().map(|entry| entry_json(&entry, self.certificates_of(&entry.host))).collect();
        format!("{:#}\n", json!({ "routes": routes }))
    }
}

/// Whether a target's endpoints mean anything: a DNS name has none.
pub(super) fn shows_endpoints(target: &Target) -> bool {
    match target {
        Target::ClusterIp(_) | Target::Endpoints => true,
        Target::Dns { .. } | Target::Unavailable(_) => false,
    }
}

fn heading(entry: &Entry<'_>) -> String {
    match (&entry.place, &entry.host) {
        (Place::Otherwise, _) => "anything else".to_owned(),
        (_, HostPattern::Any) => "any host".to_owned(),
        (_, host) => format!("host {host}"),
    }
}

fn entry_json(entry: &Entry<'_>, certificates: Option<&HostCertificates>) -> Value {
    let certificates: Vec<_> = certificates.into_iter().flat_map(HostCertificates::iter).map(|bound| bound.certificate.source()).collect();
    let Backend { id, protocol, target, endpoints } = &*entry.route.backend;
    let (kind, path) = match entry.place {
        Place::Path(pattern) => (pattern.kind(), Some(pattern.to_string())),
        Place::HostDefault => ("host-default", None),
        Place::Otherwise => ("default", None),
    };
    let host = match &entry.host {
        HostPattern::Any => None,
        HostPattern::Exact(_) | HostPattern::Wildcard(_) => Some(entry.host.to_string()),
    };
    let (target, addresses, problem) = match target {
        Target::ClusterIp(addresses) => ("clusterip", Some(addresses.iter().map(ToString::to_string).collect::<Vec<_>>()), None),
        Target::Endpoints => ("endpoints", None, None),
        Target::Dns { host, port } => ("dns", Some(vec![format!("{host}:{port}")]), None),
        Target::Unavailable(why) => ("unavailable", None, Some(&**why)),
    };
    let endpoints: Option<Vec<String>> = match endpoints {
        Endpoints::Unknown => None,
        Endpoints::Known(addresses) => Some(addresses.iter().map(ToString::to_string).collect()),
    };
    json!({
        "host": host,
        "certificates": certificates,
        "type": kind,
        "path": path,
        "ingress": entry.route.ingress.to_string(),
        "backend": id.to_string(),
        "protocol": protocol.to_string(),
        "https_only": entry.route.policy.https_only,
        "clients": entry.route.policy.clients.as_ref().map(ToString::to_string),
        "hsts": entry.route.policy.hsts.as_ref().and_then(|hsts| hsts.to_str().ok()),
        "target": target,
        "addresses": addresses,
        "problem": problem,
        "endpoints": endpoints,
    })
}
