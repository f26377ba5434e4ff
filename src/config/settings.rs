//! The typed settings of `serve`: arguments in, values that the parts take as they are out.

use std::{
    env,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    thread,
};

use ipnet::IpNet;
use serde_json::Value;
use tracing_subscriber::{EnvFilter, filter::ParseError};

use super::{
    args::{LimitArgs, ServeArgs, TlsVersion},
    checks,
    cluster::ClusterSettings,
    handover::{AfterHandover, Handover, Installation},
    limits::{Limits, POOL_IDLE_PER_WORKER},
    shown::shown,
    span::Span,
    state::StateDir,
    table,
};
use crate::{
    compile,
    message::{IpSet, Trust},
};

/// Bytes of a message's head that a limit may ask for: below, browsers' ordinary requests fail; above, a few clients fill the memory.
const HEAD_BYTES: std::ops::RangeInclusive<usize> = 8 * 1024..=1024 * 1024;

/// Everything that `serve` needs to know.
#[derive(Debug)]
pub struct ServeSettings {
    /// YAML files and directories; empty: the cluster.
    pub manifests: Vec<PathBuf>,
    /// How objects become routes. Its namespaces are also those that are watched.
    pub compile: compile::Options,
    /// Where to listen for HTTP.
    pub http: Vec<SocketAddr>,
    /// Where to listen for HTTP over TLS.
    pub https: Vec<SocketAddr>,
    /// Where to listen for HTTP/2 without TLS.
    pub h2c: Vec<SocketAddr>,
    /// Whether HTTP/2 is offered over TLS.
    pub http2: bool,
    /// The oldest version of TLS.
    pub tls_min_version: TlsVersion,
    /// `--http` wasn't given: on a machine without IPv6 the IPv6 address is left out.
    pub http_is_default: bool,
    /// How processes on one node take over from each other.
    pub handover: Handover,
    /// Worker threads.
    pub workers: usize,
    /// Whose forwarded headers are believed.
    pub trust: Trust,
    /// Whose connections begin with PROXY protocol.
    pub proxy_protocol: Option<IpSet>,
    /// Who may connect; `None`: everybody.
    pub allow_peers: Option<IpSet>,
    /// Whether `Server` is added where the backend sent none.
    pub server_header: bool,
    /// The limits.
    pub limits: Limits,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The metrics listener.
    pub metrics: Option<SocketAddr>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// What is logged.
    pub log_filter: EnvFilter,
    /// What it knows about itself in a cluster.
    pub cluster: ClusterSettings,
    /// Where the cluster's objects are kept.
    pub state: Option<StateDir>,
    /// All of it as people may see it, for `/config`.
    pub shown: Value,
}

/// `--access-log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to a file.
    File(PathBuf),
}

/// An argument whose value makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("invalid value for '{flag}': {message}")]
pub struct SettingsError {
    flag: &'static str,
    message: String,
}

impl TryFrom<ServeArgs> for ServeSettings {
    type Error = SettingsError;

    fn try_from(args: ServeArgs) -> Result<Self, SettingsError> {
        let shown = shown(&args);
        let ServeArgs {
            manifests,
            http,
            https,
            h2c,
            no_http2,
            tls_min_version,
            admin,
            metrics,
            handover,
            after_handover,
            workers,
            table,
            trusted_proxies,
            proxy_protocol,
            allow_peers,
            cloudflare_ranges,
            no_server_header,
            access_log,
            log_level,
            cluster,
            state,
            limits,
        } = args;
        let cloudflare = (!cloudflare_ranges.is_empty()).then_some(cloudflare_ranges.as_slice());
        let http_is_default = http.is_empty();
        let http = if http_is_default { default_http() } else { http };
        checks::addresses(&http, &https, &h2c)?;
        checks::tls(&table)?;
        let installation = match cluster.pod_namespace.as_deref() {
            _ if !manifests.is_empty() => Installation::Single,
            Some(namespace) => Installation::Pods { namespace, lease: &cluster.lease_name },
            None => Installation::Processes,
        };
        let state = StateDir::new(&state, !manifests.is_empty())?;
        let stands_by = state.as_ref().is_some_and(|state| state.standby);
        Ok(Self {
            handover: meeting(&handover, after_handover, installation, stands_by, admin)?,
            state,
            compile: table::serving(table::options(&table, manifests.is_empty()), &https, &trusted_proxies, &proxy_protocol),
            manifests,
            http,
            https,
            h2c,
            http2: !no_http2,
            tls_min_version,
            http_is_default,
            workers: workers.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from),
            trust: Trust::parse(&trusted_proxies, cloudflare).map_err(|error| bad("--trusted-proxies", &error))?,
            proxy_protocol: peers("--proxy-protocol", &proxy_protocol, cloudflare)?,
            allow_peers: peers("--allow-peers", &allow_peers, cloudflare)?,
            server_header: !no_server_header,
            limits: Limits::try_from(limits)?,
            admin,
            metrics,
            access_log: match access_log.as_str() {
                "" => return Err(bad("--access-log", &"expected stdout, off or a path")),
                "stdout" => AccessLog::Stdout,
                "off" => AccessLog::Off,
                path => AccessLog::File(PathBuf::from(path)),
            },
            log_filter: log_filter(&log_level).map_err(|error| bad("--log-level", &error))?,
            cluster: ClusterSettings::try_from(cluster)?,
            shown,
        })
    }
}

/// How it meets others.
fn meeting(
    choice: &str,
    after: Option<AfterHandover>,
    installation: Installation<'_>,
    stands_by: bool,
    admin: SocketAddr,
) -> Result<Handover, SettingsError> {
    let waits = env::var_os("KUBERNETES_SERVICE_HOST").is_some() && !stands_by;
    let handover = Handover::new(choice, after, installation, waits, admin).map_err(|error| bad("--handover", &error))?;
    if !stands_by {
        return Ok(handover);
    }
    checks::standby(&handover, admin)?;
    Ok(handover.standing_by())
}

/// The peers that a flag names; `None`: it isn't there.
fn peers(flag: &'static str, named: &[String], cloudflare: Option<&[IpNet]>) -> Result<Option<IpSet>, SettingsError> {
    if named.is_empty() { Ok(None) } else { IpSet::parse(named, cloudflare).map(Some).map_err(|error| bad(flag, &error)) }
}

/// The filter that `--log-level` asks for. The Kubernetes client logs every failed try at ERROR, which in an outage is thousands of lines; the cluster
/// source says the same once, in words. What it says of certificates is heard, and all of it where the level given names it.
fn log_filter(level: &str) -> Result<EnvFilter, ParseError> {
    let mut filter = EnvFilter::try_new(level)?;
    if !level.contains("kube") {
        for directive in ["kube_client::client=off", "kube_client::client::tls=warn", "kube_runtime=off"] {
            filter = filter.add_directive(directive.parse()?);
        }
    }
    if !level.contains("h2") {
        // It warns of what any client can send as often as it likes.
        filter = filter.add_directive("h2=off".parse()?);
    }
    Ok(filter)
}

impl TryFrom<LimitArgs> for Limits {
    type Error = SettingsError;

    fn try_from(args: LimitArgs) -> Result<Self, SettingsError> {
        let positive = |flag, span: Span| {
            if span.0.is_zero() { Err(bad(flag, &"must be more than 0")) } else { Ok(span.0) }
        };
        let head = |flag, bytes: usize| {
            if HEAD_BYTES.contains(&bytes) {
                Ok(bytes)
            } else {
                Err(bad(flag, &format!("must be from {} to {}", HEAD_BYTES.start(), HEAD_BYTES.end())))
            }
        };
        Ok(Self {
            request_head_bytes: head("--request-head-bytes", args.request_head_bytes)?,
            request_header_count: args.request_header_count.get(),
            tls_handshake_timeout: positive("--tls-handshake-timeout", args.tls_handshake_timeout)?,
            header_read_timeout: positive("--header-read-timeout", args.header_read_timeout)?,
            keep_alive_timeout: positive("--keep-alive-timeout", args.keep_alive_timeout)?,
            body_idle_timeout: positive("--body-idle-timeout", args.body_idle_timeout)?,
            body_min_rate: args.body_min_rate,
            body_rate_grace: args.body_rate_grace.0,
            write_stall_timeout: positive("--write-stall-timeout", args.write_stall_timeout)?,
            http2_streams: args.http2_streams.get(),
            requests_per_connection: args.requests_per_connection.get(),
            max_connections: args.max_connections.get(),
            connect_timeout: positive("--connect-timeout", args.connect_timeout)?,
            first_byte_timeout: positive("--first-byte-timeout", args.first_byte_timeout)?,
            response_idle_timeout: positive("--response-idle-timeout", args.response_idle_timeout)?,
            tunnel_idle_timeout: positive("--tunnel-idle-timeout", args.tunnel_idle_timeout)?,
            response_head_bytes: head("--response-head-bytes", args.response_head_bytes)?,
            response_header_count: args.response_header_count.get(),
            pool_idle_per_backend: args.pool_idle_per_backend,
            pool_idle_per_worker: POOL_IDLE_PER_WORKER,
            pool_idle_timeout: positive("--pool-idle-timeout", args.pool_idle_timeout)?,
            pool_max_age: positive("--pool-max-age", args.pool_max_age)?,
            // 0 is a way to say: stop at once.
            drain_timeout: args.drain_timeout.0,
        })
    }
}

pub(super) fn default_http() -> Vec<SocketAddr> {
    vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80))]
}

pub(super) fn bad(flag: &'static str, message: &dyn std::fmt::Display) -> SettingsError {
    SettingsError { flag, message: super::one_line(&message.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubernetes_client_is_silent_unless_it_is_named() {
        let silent = "kube_client::client=off";
        for (level, expected) in [("info", true), ("", true), ("nodegate=debug", true), ("info,kube_client=debug", false)] {
            assert_eq!(log_filter(level).unwrap().to_string().contains(silent), expected, "{level:?}");
        }
        assert!(log_filter("nodegate=loud").is_err());
    }
}
