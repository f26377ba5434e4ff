//! The command line as it is written: raw values, no decisions. Every flag also reads `NODEGATE_<FLAG>`.

#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links, reason = "these comments are the help texts, which are no Markdown")]

mod limits;
mod state;
mod wait;

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use ipnet::IpNet;

pub use self::{
    limits::LimitArgs,
    state::{Owner, PrepareArgs, StateArgs},
    wait::{IngressName, WaitArgs},
};
use super::{handover::AfterHandover, limits as defaults, secret_name::SecretName, span::Span};

/// Everything.
#[derive(Debug, Parser)]
#[command(name = "nodegate", version, about = "A host-network HTTP ingress proxy for Kubernetes", arg_required_else_help = false)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: from manifests, or from the cluster (in-cluster account, else KUBECONFIG)
    Serve(Box<ServeArgs>),
    /// Print what is wrong with the configuration; exit 1 if any of it is an error
    Check(CheckArgs),
    /// Print the route table
    Routes(RoutesArgs),
    /// Say which rule a URL meets, which lost and why, and where it leads
    Explain(Box<ExplainArgs>),
    /// Wait until every node serves an Ingress as it is now; exit 1 if one doesn't (in-cluster account, else KUBECONFIG)
    Wait(WaitArgs),
    /// Exit 0 if the process in this container serves, 1 if it doesn't yet: for a startup probe
    Ready(ReadyArgs),
    /// Make the directory for the state, and give it to the user that serves: as root, once on each node
    Prepare(PrepareArgs),
    /// Print the version
    Version,
}

/// `nodegate serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// YAML file or directory with Ingresses and what they name, watched for changes; without it, the cluster
    #[arg(long, env = "NODEGATE_MANIFESTS", value_name = "PATH", value_delimiter = ',')]
    pub manifests: Vec<PathBuf>,
    /// Where to listen for HTTP [default: 0.0.0.0:80 and [::]:80]
    #[arg(long, env = "NODEGATE_HTTP", value_name = "ADDR", value_delimiter = ',')]
    pub http: Vec<SocketAddr>,
    /// Where to listen for HTTP over TLS [default: nowhere]
    #[arg(long, env = "NODEGATE_HTTPS", value_name = "ADDR", value_delimiter = ',')]
    pub https: Vec<SocketAddr>,
    /// Where to listen for HTTP/2 without TLS, from clients that know it beforehand [default: nowhere]
    #[arg(long, env = "NODEGATE_H2C", value_name = "ADDR", value_delimiter = ',')]
    pub h2c: Vec<SocketAddr>,
    /// Don't offer HTTP/2 over TLS
    #[arg(long, env = "NODEGATE_NO_HTTP2", value_parser = BoolishValueParser::new())]
    pub no_http2: bool,
    /// The oldest version of TLS that is spoken
    #[arg(long, env = "NODEGATE_TLS_MIN_VERSION", value_name = "VERSION", value_enum, default_value = "1.2")]
    pub tls_min_version: TlsVersion,
    /// Where to listen for health, metrics, routes and explain
    #[arg(long, env = "NODEGATE_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9080")]
    pub admin: SocketAddr,
    /// A second listener, with /metrics, /healthz, /readyz and /nodez alone
    #[arg(long, env = "NODEGATE_METRICS", value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Take over from a process that runs here already, and hand over to the next: auto (in the cluster, by namespace and Lease), on, off, or a name
    #[arg(long, env = "NODEGATE_HANDOVER", value_name = "auto|on|off|NAME", default_value = "auto")]
    pub handover: String,
    /// Once another process has taken over: stand by until a signal, or drain and end [default: wait in a pod, else exit]
    #[arg(long, env = "NODEGATE_AFTER_HANDOVER", value_name = "HOW", value_enum)]
    pub after_handover: Option<AfterHandover>,
    /// Worker threads [default: one per core]
    #[arg(long, env = "NODEGATE_WORKERS", value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// How objects become routes.
    #[command(flatten)]
    pub table: TableArgs,
    /// Peers whose forwarded headers are believed: addresses, ranges, or cloudflare, private, all, none
    #[arg(long, env = "NODEGATE_TRUSTED_PROXIES", value_name = "CIDR|WORD", value_delimiter = ',')]
    pub trusted_proxies: Vec<String>,
    /// Peers whose connections begin with PROXY protocol, version 1 or 2: addresses, ranges, or cloudflare, private, all, none
    #[arg(long, env = "NODEGATE_PROXY_PROTOCOL", value_name = "CIDR|WORD", value_delimiter = ',')]
    pub proxy_protocol: Vec<String>,
    /// Close connections from anyone else at accept: addresses, ranges, or cloudflare, private, all, none
    #[arg(long, env = "NODEGATE_ALLOW_PEERS", value_name = "CIDR|WORD", value_delimiter = ',')]
    pub allow_peers: Vec<String>,
    /// What the word cloudflare stands for, instead of the ranges built in
    #[arg(long, env = "NODEGATE_CLOUDFLARE_RANGES", value_name = "CIDR", value_delimiter = ',')]
    pub cloudflare_ranges: Vec<IpNet>,
    /// Don't add `Server: nodegate` where the backend sent none
    #[arg(long, env = "NODEGATE_NO_SERVER_HEADER", value_parser = BoolishValueParser::new())]
    pub no_server_header: bool,
    /// One JSON line a request: stdout, off, or a file that is appended to
    #[arg(long, env = "NODEGATE_ACCESS_LOG", value_name = "stdout|off|PATH", default_value = "stdout")]
    pub access_log: String,
    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as info,nodegate=debug
    #[arg(long, env = "NODEGATE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// What it knows about itself in a cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What it keeps on disk of it.
    #[command(flatten)]
    pub state: StateArgs,
    /// Limits and timeouts.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// What `serve` knows about itself in a cluster, and writes there. Not used with `--manifests`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// The pod that this runs in (downward API: metadata.name); without it, no node's address is written into Ingresses
    #[arg(long, env = "NODEGATE_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// That pod's uid (downward API: metadata.uid); without it, this node doesn't report which versions it serves, and `nodegate wait` waits in vain
    #[arg(long, env = "NODEGATE_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Its namespace, and that of the leader's Lease [default: the service account's, or the kubeconfig's]
    #[arg(long, env = "NODEGATE_POD_NAMESPACE", value_name = "NS")]
    pub pod_namespace: Option<String>,
    /// The Lease by which one of an installation's pods is chosen to write to the cluster
    #[arg(long, env = "NODEGATE_LEASE_NAME", value_name = "NAME", default_value = "nodegate")]
    pub lease_name: String,
    /// How long a leader may be silent before another takes its place
    #[arg(long, env = "NODEGATE_LEASE_DURATION", value_name = "TIME", default_value_t = Span(defaults::LEASE_DURATION))]
    pub lease_duration: Span,
    /// Write this IP address or host name into Ingresses, in place of the nodes' addresses
    #[arg(long, env = "NODEGATE_PUBLISH_ADDRESS", value_name = "ADDR", value_delimiter = ',')]
    pub publish_address: Vec<String>,
}

/// How objects become routes: the same for `serve` and for the commands that only look.
#[derive(Debug, Clone, Args)]
pub struct TableArgs {
    /// A class that is ours even where no IngressClass object says so
    #[arg(long, env = "NODEGATE_INGRESS_CLASS", value_name = "NAME", value_delimiter = ',', default_value = "nodegate")]
    pub ingress_class: Vec<String>,
    /// IngressClasses of this controller are ours
    #[arg(
        long,
        env = "NODEGATE_CONTROLLER",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "nodegate.dev/ingress-controller"
    )]
    pub controller: Vec<String>,
    /// Only objects of this namespace [default: all]
    #[arg(long, env = "NODEGATE_WATCH_NAMESPACE", value_name = "NS", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// Take Ingresses that name no class at all
    #[arg(long, env = "NODEGATE_ADOPT_CLASSLESS", value_parser = BoolishValueParser::new())]
    pub adopt_classless: bool,
    /// Who may route a host: shared lets every namespace, namespace only the one that did so first
    #[arg(long, env = "NODEGATE_HOST_OWNERSHIP", value_name = "HOW", value_enum, default_value = "shared")]
    pub host_ownership: Ownership,
    /// The Secret whose certificate hosts get that have none of their own [default: self-signed, made at the start]
    #[arg(long, env = "NODEGATE_DEFAULT_CERTIFICATE", value_name = "NS/NAME")]
    pub default_certificate: Option<SecretName>,
    /// Let ExternalName Services lead to loopback, link-local and other namespaces' addresses
    #[arg(long, env = "NODEGATE_ALLOW_UNSAFE_EXTERNAL", value_parser = BoolishValueParser::new())]
    pub allow_unsafe_external: bool,
}

/// `--tls-min-version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// TLS 1.2, and newer ones.
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[value(name = "1.3")]
    Tls13,
}

/// `--host-ownership`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ownership {
    /// Every namespace may route every host.
    Shared,
    /// A host belongs to the namespace that routed it first.
    Namespace,
}

/// `nodegate check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// YAML file or directory
    #[arg(long, env = "NODEGATE_MANIFESTS", value_name = "PATH", value_delimiter = ',')]
    pub manifests: Vec<PathBuf>,
    /// What the cluster holds now (in-cluster account, else KUBECONFIG)
    #[arg(long)]
    pub cluster: bool,
    /// How objects become routes.
    #[command(flatten)]
    pub table: TableArgs,
}

/// Where `routes` and `explain` look: at manifests, or at a proxy that runs.
#[derive(Debug, Args)]
pub struct WhereArgs {
    /// YAML file or directory
    #[arg(long, env = "NODEGATE_MANIFESTS", value_name = "PATH", value_delimiter = ',')]
    pub manifests: Vec<PathBuf>,
    /// The admin listener of a proxy that runs, such as http://127.0.0.1:9080
    #[arg(long, env = "NODEGATE_ADMIN", value_name = "URL")]
    pub admin: Option<String>,
    /// How objects become routes.
    #[command(flatten)]
    pub table: TableArgs,
}

/// `nodegate routes`.
#[derive(Debug, Args)]
pub struct RoutesArgs {
    /// Where to look.
    #[command(flatten)]
    pub source: WhereArgs,
    /// In which form
    #[arg(long, env = "NODEGATE_OUTPUT", value_name = "FORM", value_enum, default_value = "text")]
    pub output: Form,
}

/// `nodegate ready`.
#[derive(Debug, Args)]
pub struct ReadyArgs {
    /// The admin listener
    #[arg(long, env = "NODEGATE_ADMIN", value_name = "URL", default_value = "127.0.0.1:9080")]
    pub admin: String,
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `nodegate explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Such as http://shop.example.com/cart?item=1
    pub url: String,
    /// The request's method
    #[arg(long, env = "NODEGATE_METHOD", value_name = "M", default_value = "GET")]
    pub method: String,
    /// A header of the request; Host takes the place of the URL's
    #[arg(long, env = "NODEGATE_HEADER", value_name = "K: V")]
    pub header: Vec<String>,
    /// Where to look.
    #[command(flatten)]
    pub source: WhereArgs,
}
