//! The settings as people may see them, for `/config`.

use serde_json::{Value, json};

use super::{
    args::{LimitArgs, Ownership, ServeArgs, TableArgs, TlsVersion},
    cluster,
    handover::AfterHandover,
    settings::default_http,
};

/// The flags by name, with the values in force. No flag holds a secret; one that did would have to be left out here.
pub(super) fn shown(args: &ServeArgs) -> Value {
    let TableArgs {
        ingress_class,
        controller,
        watch_namespace,
        adopt_classless,
        host_ownership,
        default_certificate,
        allow_unsafe_external,
    } = &args.table;
    let http = if args.http.is_empty() { default_http() } else { args.http.clone() };
    json!({
        "manifests": args.manifests,
        "http": http,
        "https": args.https,
        "h2c": args.h2c,
        "no-http2": args.no_http2,
        "tls-min-version": match args.tls_min_version { TlsVersion::Tls12 => "1.2", TlsVersion::Tls13 => "1.3" },
        "admin": args.admin,
        "metrics": args.metrics,
        "handover": args.handover,
        "after-handover": args.after_handover.map(|after| match after { AfterHandover::Wait => "wait", AfterHandover::Exit => "exit" }),
        "workers": args.workers,
        "ingress-class": ingress_class,
        "controller": controller,
        "watch-namespace": watch_namespace,
        "adopt-classless": adopt_classless,
        "host-ownership": match host_ownership { Ownership::Shared => "shared", Ownership::Namespace => "namespace" },
        "default-certificate": default_certificate.as_ref().map(ToString::to_string),
        "allow-unsafe-external": allow_unsafe_external,
        "trusted-proxies": args.trusted_proxies,
        "proxy-protocol": args.proxy_protocol,
        "allow-peers": args.allow_peers,
        "cloudflare-ranges": args.cloudflare_ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "no-server-header": args.no_server_header,
        "access-log": args.access_log,
        "log-level": args.log_level,
        "cluster": cluster::shown(&args.cluster),
        "state-dir": args.state.state_dir,
        "persist-secrets": args.state.persist_secrets,
        "api-timeout": args.state.api_timeout.to_string(),
        "standby": args.state.standby,
        "limits": shown_limits(&args.limits),
    })
}

fn shown_limits(limits: &LimitArgs) -> Value {
    json!({
        "drain-timeout": limits.drain_timeout.to_string(),
        "keep-alive-timeout": limits.keep_alive_timeout.to_string(),
        "tls-handshake-timeout": limits.tls_handshake_timeout.to_string(),
        "header-read-timeout": limits.header_read_timeout.to_string(),
        "body-idle-timeout": limits.body_idle_timeout.to_string(),
        "body-min-rate": limits.body_min_rate,
        "body-rate-grace": limits.body_rate_grace.to_string(),
        "write-stall-timeout": limits.write_stall_timeout.to_string(),
        "connect-timeout": limits.connect_timeout.to_string(),
        "first-byte-timeout": limits.first_byte_timeout.to_string(),
        "response-idle-timeout": limits.response_idle_timeout.to_string(),
        "tunnel-idle-timeout": limits.tunnel_idle_timeout.to_string(),
        "max-connections": limits.max_connections,
        "http2-streams": limits.http2_streams,
        "requests-per-connection": limits.requests_per_connection,
        "request-head-bytes": limits.request_head_bytes,
        "request-header-count": limits.request_header_count,
        "response-head-bytes": limits.response_head_bytes,
        "response-header-count": limits.response_header_count,
        "pool-idle-per-backend": limits.pool_idle_per_backend,
        "pool-idle-timeout": limits.pool_idle_timeout.to_string(),
        "pool-max-age": limits.pool_max_age.to_string(),
    })
}
