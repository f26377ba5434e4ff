//! Where an ExternalName Service may not lead: whoever may write a Service must not reach the node's own ports, the cloud's metadata, or
//! another namespace through us.

use std::net::IpAddr;

use crate::message::allowed_external;

/// Names that clouds give their metadata service, whatever it resolves to.
const METADATA_NAMES: [&str; 3] = ["metadata", "metadata.google.internal", "metadata.goog"];

/// Why a name (lower case, without a trailing dot) is refused to a Service of `namespace`. An address that the name resolves to is
/// looked at when it is dialled.
pub(super) fn refusal(host: &str, namespace: &str) -> Option<&'static str> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return (!allowed_external(address)).then_some("is a loopback, link-local or metadata address");
    }
    let labels: Vec<&str> = host.split('.').collect();
    if labels.last() == Some(&"localhost") || host == "localhost.localdomain" {
        return Some("is a loopback name");
    }
    if METADATA_NAMES.contains(&host) {
        return Some("is a metadata service");
    }
    let inside = labels.strip_suffix(["cluster", "local"].as_slice()).unwrap_or(&labels);
    match inside {
        [.., owner, "svc" | "pod"] if *owner != namespace => Some("belongs to another namespace of this cluster"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_name_leads_neither_inside_the_node_nor_into_another_namespace() {
        let cases = [
            ("example.com", true),
            ("203.0.113.7", true),
            ("2001:db8::1", true),
            ("api.shop.svc.cluster.local", true),
            ("api.shop.svc", true),
            ("svc", true),
            ("cluster.local", true),
            ("svc.cluster.local", true),
            ("localhost", false),
            ("a.localhost", false),
            ("localhost.localdomain", false),
            ("127.0.0.1", false),
            ("127.8.9.1", false),
            ("::1", false),
            ("[::1]", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("metadata.google.internal", false),
            ("redis.other.svc.cluster.local", false),
            ("redis.other.svc", false),
            ("pod-1.redis.other.svc.cluster.local", false),
            ("10-0-0-1.other.pod.cluster.local", false),
        ];
        for (host, allowed) in cases {
            assert_eq!(refusal(host, "shop").is_none(), allowed, "{host}");
        }
    }
}
