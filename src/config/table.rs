//! How objects become routes: the arguments as the compiler takes them.

use std::net::SocketAddr;

use super::{
    args::{Ownership, TableArgs},
    secret_name::SecretName,
};
use crate::compile;

/// The options of compiling. Only a cluster's EndpointSlices are all there are: a Service that has none there has no endpoints, while manifests
/// may just not name them.
pub fn options(table: &TableArgs, cluster: bool) -> compile::Options {
    let TableArgs {
        ingress_class,
        controller,
        watch_namespace,
        adopt_classless,
        host_ownership,
        default_certificate,
        allow_unsafe_external,
    } = table.clone();
    compile::Options {
        controllers: controller,
        class_names: ingress_class,
        adopt_classless,
        watch_namespaces: watch_namespace,
        host_ownership: match host_ownership {
            Ownership::Shared => compile::HostOwnership::Shared,
            Ownership::Namespace => compile::HostOwnership::Namespace,
        },
        allow_unsafe_external,
        endpoints_authoritative: cluster,
        default_certificate: default_certificate.map(|SecretName { namespace, name }| (namespace, name)),
        // Those that only look have a cluster's other objects before them, and not its Secrets.
        tls: if cluster { compile::Tls::Unknown } else { compile::Tls::Served },
        https: compile::Https::Possible,
    }
}

/// The options of compiling for somebody who serves.
pub(super) fn serving(
    options: compile::Options,
    https: &[SocketAddr],
    trusted_proxies: &[String],
    proxy_protocol: &[String],
) -> compile::Options {
    let nobody = |named: &[String]| named.iter().all(|named| named == "none");
    let tls = if https.is_empty() { compile::Tls::NotServed } else { compile::Tls::Served };
    let https = match tls {
        compile::Tls::NotServed if nobody(trusted_proxies) => compile::Https::Never,
        _ if nobody(proxy_protocol) => compile::Https::Possible,
        _ => compile::Https::PassedOn,
    };
    compile::Options { tls, https, ..options }
}
