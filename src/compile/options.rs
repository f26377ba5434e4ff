//! What the command line says about compiling.

/// The controller name that our own IngressClass carries in `spec.controller`.
pub const OWN_CONTROLLER: &str = "nodegate.dev/ingress-controller";

/// What `--flags` say about compiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `--controller`: an IngressClass with one of these in `spec.controller` is ours.
    pub controllers: Vec<String>,
    /// `--ingress-class`: names of classes that are ours where no IngressClass object of that name exists.
    pub class_names: Vec<String>,
    /// `--adopt-classless`: an Ingress that names no class is ours.
    pub adopt_classless: bool,
    /// `--watch-namespace`: Ingresses of these namespaces alone; of all, if empty.
    pub watch_namespaces: Vec<String>,
    /// `--host-ownership`.
    pub host_ownership: HostOwnership,
    /// `--allow-unsafe-external`: an ExternalName may lead to loopback, link-local and metadata addresses, and to Services of other namespaces.
    pub allow_unsafe_external: bool,
    /// Whether the EndpointSlices are all there are, so that a Service without one has no endpoints: true in a cluster. In file mode, where
    /// few people write EndpointSlices by hand, the endpoints of such a Service are unknown.
    pub endpoints_authoritative: bool,
    /// `--default-certificate`: the Secret whose certificate hosts get that have none of their own, by namespace and name.
    pub default_certificate: Option<(String, String)>,
    /// What becomes of `spec.tls`.
    pub tls: Tls,
    /// Whether any request can count as one over HTTPS.
    pub https: Https,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controllers: vec![OWN_CONTROLLER.to_owned()],
            class_names: vec!["nodegate".to_owned()],
            adopt_classless: false,
            watch_namespaces: Vec::new(),
            host_ownership: HostOwnership::Shared,
            allow_unsafe_external: false,
            endpoints_authoritative: false,
            default_certificate: None,
            tls: Tls::Served,
            https: Https::Possible,
        }
    }
}

/// What becomes of `spec.tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Hosts get the certificates that it names.
    #[default]
    Served,
    /// Nothing: there is no `--https`.
    NotServed,
    /// Nobody can tell here: the Secrets aren't read.
    Unknown,
}

/// Whether a request can count as one over HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Https {
    /// TLS is served, or a peer trusted to say so; or nobody can tell here.
    #[default]
    Possible,
    /// The same; but `--proxy-protocol` names peers, behind which nobody can tell if they end TLS without a word of it.
    PassedOn,
    /// There is no `--https`, and nobody is trusted.
    Never,
}

/// Who may route a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostOwnership {
    /// Any namespace; equal paths go to the oldest Ingress.
    #[default]
    Shared,
    /// The namespace of the oldest Ingress that names the host, or that has a wildcard over it. Rules without a host own nothing.
    Namespace,
}
