//! Secrets into certificates, and certificates onto the hosts of the Ingresses that name them.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use k8s_openapi::api::core::v1::Secret;

use super::{
    Options,
    incremental::{Name, Secrets},
    index::Index,
    options,
    parse::Tls,
};
use crate::{
    certificate::{BadAuthorities, BadCertificate, Certificate, ClientTrust, ServerTrust},
    route::HostPattern,
};

/// The type of a Secret that holds a certificate and its key.
const TLS_TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
/// What is read of a Secret.
pub(crate) const SECRET_KEYS: [&str; 3] = [CERTIFICATE, KEY, AUTHORITIES];

/// What is under a Secret's name.
pub(super) type Held = Result<Arc<Certificate>, Problem>;

/// The authorities under a Secret's name that may vouch for backends.
pub(super) type HeldTrust = Result<Arc<ServerTrust>, Problem>;

/// The authorities under a Secret's name that may vouch for clients.
pub(super) type HeldClients = Result<Arc<ClientTrust>, Problem>;

/// Why there is no certificate under a Secret's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("there is no Secret {0}")]
    Missing(Arc<str>),
    #[error("Secret {0} is of type {1}, not kubernetes.io/tls")]
    Type(Arc<str>, String),
    #[error("Secret {0}: {1}")]
    Bad(Arc<str>, BadCertificate),
    #[error("Secret {0}: {1}")]
    Authorities(Arc<str>, BadAuthorities),
}

impl Problem {
    /// The code of its diagnostic.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "unknown_secret",
            Self::Type(..) | Self::Bad(..) | Self::Authorities(..) => "bad_secret",
        }
    }
}

/// Secrets as certificates, each looked at once.
pub(super) struct Certificates<'a> {
    index: &'a Index<'a>,
    earlier: &'a Secrets,
    known: HashMap<Name, Held, RandomState>,
    trusts: HashMap<Name, HeldTrust, RandomState>,
    clients: HashMap<Name, HeldClients, RandomState>,
}

/// What to serve of a Secret, and what is wrong.
pub(super) struct Served {
    /// The certificate, or the last one that was good.
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) problem: Option<Problem>,
}

/// What was found in all Secrets that were looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) certificates: Vec<(Name, Held)>,
    pub(super) trusts: Vec<(Name, HeldTrust)>,
    pub(super) clients: Vec<(Name, HeldClients)>,
}

impl<'a> Certificates<'a> {
    pub(super) fn new(index: &'a Index<'a>, earlier: &'a Secrets) -> Self {
        Self { index, earlier, known: HashMap::default(), trusts: HashMap::default(), clients: HashMap::default() }
    }

    pub(super) fn get(&mut self, name: &Name) -> Served {
        let held = if let Some(held) = self.known.get(name) {
            held.clone()
        } else {
            let held = self.earlier.earlier(name).cloned().unwrap_or_else(|| self.look(name));
            self.known.insert(name.clone(), held.clone());
            held
        };
        match held {
            Ok(certificate) => Served { certificate: Some(certificate), problem: None },
            Err(problem) => Served { certificate: self.earlier.last_good(name).cloned(), problem: Some(problem) },
        }
    }

    /// The authorities in a Secret. No last good ones: whom nobody vouches for isn't believed.
    pub(super) fn authorities(&mut self, name: &Name) -> HeldTrust {
        if let Some(held) = self.trusts.get(name) {
            return held.clone();
        }
        let held = self.earlier.earlier_trust(name).cloned().unwrap_or_else(|| {
            let (secret, text) = self.find(name)?;
            ServerTrust::parse(Arc::clone(&text), part(secret, AUTHORITIES)).map(Arc::new).map_err(|bad| Problem::Authorities(text, bad))
        });
        self.trusts.insert(name.clone(), held.clone());
        held
    }

    /// The same for clients.
    pub(super) fn client_authorities(&mut self, name: &Name) -> HeldClients {
        if let Some(held) = self.clients.get(name) {
            return held.clone();
        }
        let held = self.earlier.earlier_clients(name).cloned().unwrap_or_else(|| {
            let (secret, text) = self.find(name)?;
            ClientTrust::parse(Arc::clone(&text), part(secret, AUTHORITIES)).map(Arc::new).map_err(|bad| Problem::Authorities(text, bad))
        });
        self.clients.insert(name.clone(), held.clone());
        held
    }

    fn look(&self, name: &Name) -> Held {
        let (secret, text) = self.find(name)?;
        certificate(secret, text).map(Arc::new)
    }

    fn find(&self, name: &Name) -> Result<(&'a Secret, Arc<str>), Problem> {
        let text: Arc<str> = Arc::from(format!("{}/{}", name.namespace, name.name));
        match self.index.secrets.get(&(&*name.namespace, &*name.name)) {
            Some(secret) => Ok((secret, text)),
            None => Err(Problem::Missing(text)),
        }
    }

    /// All that were asked for.
    pub(super) fn all(self) -> Looked {
        Looked {
            certificates: self.known.into_iter().collect(),
            trusts: self.trusts.into_iter().collect(),
            clients: self.clients.into_iter().collect(),
        }
    }
}

fn part<'s>(secret: &'s Secret, key: &str) -> &'s [u8] {
    secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[], |bytes| &bytes.0)
}

fn certificate(secret: &Secret, name: Arc<str>) -> Result<Certificate, Problem> {
    if secret.type_.as_deref() != Some(TLS_TYPE) {
        return Err(Problem::Type(name, secret.type_.clone().unwrap_or_else(|| "Opaque".to_owned())));
    }
    Certificate::parse(Arc::clone(&name), part(secret, CERTIFICATE), part(secret, KEY)).map_err(|bad| Problem::Bad(name, bad))
}

/// The Secret of the default certificate, where one is asked for and TLS served.
pub(super) fn default_name(options: &Options) -> Option<Name> {
    let (namespace, name) = options.default_certificate.as_ref().filter(|_| options.tls == options::Tls::Served)?;
    Some(Name { namespace: Arc::from(namespace.as_str()), name: Arc::from(name.as_str()) })
}

/// The hosts that an entry of `spec.tls` gives a certificate to, of those that the rules of its own Ingress route; and the ones that none of them routes.
/// A wildcard stands for itself and for the rules' hosts right below it. No rule but one that names the host makes it theirs: below a wildcard, or where rules
/// name no host, it may be another tenant's.
pub(super) fn hosts(tls: &Tls<'_>, routed: &[HostPattern]) -> (Vec<HostPattern>, Vec<HostPattern>) {
    let Some(named) = &tls.hosts else {
        return (routed.iter().filter(|host| **host != HostPattern::Any).cloned().collect(), Vec::new());
    };
    let (mut given, mut stray) = (Vec::new(), Vec::new());
    for host in named {
        let below = routed.iter().filter(|rule| rule.wildcard_above().as_ref() == Some(host));
        let before = given.len();
        given.extend(below.cloned());
        if routed.contains(host) {
            given.push(host.clone());
        }
        if given.len() == before {
            stray.push(host.clone());
        }
    }
    given.sort();
    given.dedup();
    (given, stray)
}
