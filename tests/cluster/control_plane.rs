//! etcd, API server, controller manager and scheduler, all on the first node.

use std::path::Path;

use crate::{credentials::Credentials, daemon::Daemon, namespace::Namespace, network::node_address};

/// The Services' range; the cluster's DNS is in it at [`crate::dns::ADDRESS`].
const SERVICES: &str = "10.43.0.0/16";

/// Where etcd keeps everything, on the first node.
pub const ETCD: &str = "/var/lib/etcd";

/// The processes that make a cluster of nodes.
#[derive(Debug)]
pub struct ControlPlane {
    pub etcd: Daemon,
    pub api_server: Daemon,
    pub manager: Daemon,
    pub scheduler: Daemon,
}

impl ControlPlane {
    /// None of them runs yet.
    pub fn new(host: &Namespace, binaries: &Path, credentials: &Credentials, logs: &Path) -> Self {
        let daemon = |name: &str, flags: Vec<String>| {
            let mut line = host.prefix();
            line.push(binaries.join(name).to_str().expect("a path in UTF-8").to_owned());
            line.extend(flags);
            Daemon::new(name, line, logs)
        };
        Self {
            etcd: daemon("etcd", etcd_flags()),
            api_server: daemon("kube-apiserver", api_server_flags(credentials, logs)),
            manager: daemon("kube-controller-manager", manager_flags(credentials)),
            scheduler: daemon("kube-scheduler", scheduler_flags(credentials)),
        }
    }

    /// Starts controller manager and scheduler anew if they run, and whether they do. A killed API server ends their leases, and with that
    /// themselves, in real clusters; these have no leases. And one that comes back answers "forbidden" until it has read its roles: their
    /// informers then back off, some for minutes, in which a rolling update stands still.
    pub fn restart_followers(&self) -> bool {
        let restarted = [&self.manager, &self.scheduler].map(Daemon::restart);
        restarted.contains(&true)
    }

    /// Fails if one of them ended by itself.
    pub fn check(&self) -> Result<(), String> {
        [&self.etcd, &self.api_server, &self.manager, &self.scheduler].into_iter().try_for_each(Daemon::check)
    }
}

fn flags<const N: usize>(flags: [(&str, &str); N]) -> Vec<String> {
    flags.map(|(name, value)| format!("--{name}={value}")).to_vec()
}

fn etcd_flags() -> Vec<String> {
    flags([
        ("data-dir", ETCD),
        // The data needn't survive the machine.
        ("unsafe-no-fsync", "true"),
        ("log-level", "warn"),
        ("listen-client-urls", "http://127.0.0.1:2379"),
        ("advertise-client-urls", "http://127.0.0.1:2379"),
        ("listen-peer-urls", "http://127.0.0.1:2380"),
        ("initial-advertise-peer-urls", "http://127.0.0.1:2380"),
        ("initial-cluster", "default=http://127.0.0.1:2380"),
    ])
}

fn api_server_flags(credentials: &Credentials, logs: &Path) -> Vec<String> {
    flags([
        ("etcd-servers", "http://127.0.0.1:2379"),
        ("secure-port", "6443"),
        // Not loopback, or it can't write the endpoints of Service `kubernetes`.
        ("advertise-address", &node_address(1).to_string()),
        ("tls-cert-file", &credentials.file("api.crt")),
        ("tls-private-key-file", &credentials.file("api.key")),
        ("service-cluster-ip-range", SERVICES),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-account-key-file", &credentials.file("accounts.pub")),
        ("service-account-signing-key-file", &credentials.file("accounts.key")),
        ("token-auth-file", &credentials.file("tokens.csv")),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("allow-privileged", "true"),
        ("kubelet-preferred-address-types", "InternalIP"),
        ("audit-policy-file", &credentials.file("audit-policy.json")),
        ("audit-log-path", logs.join("audit.log").to_str().expect("a path in UTF-8")),
    ])
}

fn manager_flags(credentials: &Credentials) -> Vec<String> {
    flags([
        ("kubeconfig", &credentials.kubeconfig("manager")),
        ("root-ca-file", &credentials.file("api.crt")),
        ("service-account-private-key-file", &credentials.file("accounts.key")),
        ("use-service-account-credentials", "true"),
        ("leader-elect", "false"),
        ("bind-address", "127.0.0.1"),
        // A node is lost after 40 s and not 50, so that tests needn't wait quite so long. Not less: after an outage of the API server the controller may take half
        // a minute to follow it again, and with 16 s it called all nodes lost then. The kubelets renew their leases every 2 s.
        ("node-monitor-grace-period", "40s"),
        ("node-monitor-period", "2s"),
        ("kube-api-qps", "200"),
        ("kube-api-burst", "400"),
    ])
}

fn scheduler_flags(credentials: &Credentials) -> Vec<String> {
    flags([("kubeconfig", &credentials.kubeconfig("scheduler")), ("leader-elect", "false"), ("bind-address", "127.0.0.1")])
}
