//! The settings of `serve`, sorted by who takes them.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    access_log, compile,
    config::{AccessLog, ClusterSettings, Handover, ServeSettings, StateDir, TlsVersion},
    handover::Name,
    proxy,
    source::Source,
};

/// What each part takes.
pub(super) struct Parts {
    pub(super) source: Source,
    pub(super) compile: compile::Options,
    pub(super) proxy: proxy::Settings,
    pub(super) admin: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) handover: Handover,
    pub(super) access_log: access_log::Output,
    /// Where one is met that serves only while nobody else does on this node; `None`: it isn't one.
    pub(super) standby: Option<Name>,
    /// Not with manifests, nor where there is but a copy of a cluster's objects.
    pub(super) cluster: Option<ClusterSettings>,
    pub(super) shown: Value,
}

/// Sorts them. Where no IPv6 is, nobody listens on it by default.
pub(super) fn parts(settings: ServeSettings) -> Parts {
    let ServeSettings {
        manifests,
        compile,
        mut http,
        https,
        h2c,
        http2,
        tls_min_version,
        http_is_default,
        workers,
        trust,
        proxy_protocol,
        allow_peers,
        server_header,
        limits,
        admin,
        metrics,
        handover,
        access_log,
        log_filter: _,
        cluster,
        state,
        shown,
    } = settings;
    if http_is_default && Socket::new(Domain::IPV6, Type::STREAM, None).is_err() {
        http.retain(SocketAddr::is_ipv4);
    }
    let standby = state.as_ref().filter(|state| state.standby).and(handover.name.as_deref()).map(Name::new);
    let source = source(manifests, &compile, state);
    let cluster = matches!(source, Source::Cluster { .. }).then_some(cluster);
    let allow_unsafe_external = compile.allow_unsafe_external;
    let tls_min_version = match tls_min_version {
        TlsVersion::Tls12 => proxy::MinVersion::Tls12,
        TlsVersion::Tls13 => proxy::MinVersion::Tls13,
    };
    Parts {
        source,
        compile,
        proxy: proxy::Settings {
            http,
            https,
            h2c,
            http2,
            tls_min_version,
            workers,
            trust,
            proxy_protocol,
            allow_peers,
            server_header,
            allow_unsafe_external,
            limits,
        },
        admin,
        metrics,
        handover,
        standby,
        access_log: match access_log {
            AccessLog::Stdout => access_log::Output::Stdout,
            AccessLog::Off => access_log::Output::Off,
            AccessLog::File(path) => access_log::Output::File(path),
        },
        cluster,
        shown,
    }
}

/// The files; without any the cluster, or what there is of it on disk.
fn source(manifests: Vec<PathBuf>, compile: &compile::Options, state: Option<StateDir>) -> Source {
    if !manifests.is_empty() {
        return Source::Files(manifests);
    }
    let (namespaces, secrets) = (compile.watch_namespaces.clone(), compile.tls == compile::Tls::Served);
    match state {
        Some(StateDir { path, standby: true, .. }) => Source::Copy { directory: path, namespaces, secrets },
        state => Source::Cluster { config: None, namespaces, secrets, state },
    }
}
