//! Which certificates a host has, and whether a connection that was made for one host may carry requests for another.

use std::{fmt, sync::Arc};

use super::{HostPattern, HostTable, IngressId, Snapshot, host};
use crate::certificate::{Certificate, ClientTrust};

/// The certificates of one host: at most one of each algorithm, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificates(Box<[Bound]>);

/// A certificate, and the Ingress that has named it for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// The Ingress; `None`: it is the default certificate.
    pub ingress: Option<Arc<IngressId>>,
}

/// What keeps an Ingress's certificate from a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precedent {
    /// One that the host has already: of the same algorithm, or of another namespace.
    Certificate(Bound),
    /// The oldest Ingress that routes the host is of another namespace, with or without a certificate.
    Owner(Arc<IngressId>),
}

impl HostCertificates {
    /// A default certificate, which no Ingress has named.
    pub fn default_certificate(certificate: Arc<Certificate>) -> Self {
        Self(Box::new([Bound { certificate, ingress: None }]))
    }

    /// The best first.
    pub fn iter(&self) -> impl Iterator<Item = &Bound> {
        self.0.iter()
    }

    /// Whether clients get the same ones for both.
    fn same(&self, other: &Self) -> bool {
        self.0.iter().map(|bound| &bound.certificate).eq(other.0.iter().map(|bound| &bound.certificate))
    }
}

impl Snapshot {
    /// The certificates for a name that a client has asked for (RFC 6066 section 3), in lower case; or, if it has asked for none or the name has none of
    /// its own, the default one. A name that rules have as such is theirs alone: the certificate of a wildcard above it is somebody else's.
    pub fn certificates(&self, name: Option<&str>) -> Option<&HostCertificates> {
        name.and_then(|name| self.own_certificates(name)).or(self.default_certificate.as_deref())
    }

    /// Whether a connection that asked for `asked` when it was made may carry a request for `host`: both have the same certificates.
    pub fn may_share_a_connection(&self, asked: Option<&str>, host: &str) -> bool {
        if asked == Some(host) {
            return true;
        }
        match (asked.and_then(|asked| self.own_certificates(asked)), self.own_certificates(host)) {
            (None, None) => true,
            (Some(one), Some(other)) => std::ptr::eq(one, other) || one.same(other),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Who may connect for a name that a client has asked for, or send requests for a host; `None`: everybody.
    pub fn clients(&self, name: &str) -> Option<&Arc<ClientTrust>> {
        self.own_table(name).and_then(|table| table.clients.as_ref())
    }

    fn own_certificates(&self, name: &str) -> Option<&HostCertificates> {
        self.own_table(name).and_then(|table| table.certificates.as_ref())
    }

    fn own_table(&self, name: &str) -> Option<&HostTable> {
        match self.exact.get(name) {
            Some(table) => Some(table),
            None => host::parent(name).and_then(|parent| self.wildcard.get(parent)).map(AsRef::as_ref),
        }
    }

    /// The certificates that Ingresses have named for the host of a rule.
    pub(super) fn certificates_of(&self, host: &HostPattern) -> Option<&HostCertificates> {
        let table = match host {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Wildcard(name) => self.wildcard.get(name),
            HostPattern::Any => None,
        };
        table.and_then(|table| table.certificates.as_ref())
    }

    /// Every certificate that somebody may get, in any order; one that several hosts have, several times.
    pub fn all_certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let of_hosts = self.exact.values().chain(self.wildcard.values()).filter_map(|table| table.certificates.as_ref());
        of_hosts.chain(self.default_certificate.as_deref()).flat_map(HostCertificates::iter).map(|bound| &bound.certificate)
    }
}

/// `ECDSA shop/cert, RSA shop/old`.
impl fmt::Display for HostCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Bound { certificate, ingress: _ }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", certificate.algorithm(), certificate.source())?;
        }
        Ok(())
    }
}

/// The certificates of a host in the making.
#[derive(Debug, Default)]
pub(super) struct Gathered(Vec<Bound>);

impl Gathered {
    /// Adds one.
    ///
    /// # Errors
    /// The one that is there: of the same algorithm, or named by an Ingress of another namespace, which was first and has the say.
    pub(super) fn add(&mut self, certificate: &Arc<Certificate>, ingress: &Arc<IngressId>) -> Result<(), Bound> {
        let algorithm = certificate.algorithm();
        let another_s = |bound: &Bound| bound.ingress.as_ref().is_none_or(|owner| owner.namespace != ingress.namespace);
        if let Some(winner) = self.0.iter().find(|bound| bound.certificate.algorithm() == algorithm || another_s(bound)) {
            return if winner.certificate == *certificate { Ok(()) } else { Err(winner.clone()) };
        }
        self.0.push(Bound { certificate: Arc::clone(certificate), ingress: Some(Arc::clone(ingress)) });
        Ok(())
    }

    pub(super) fn finish(self) -> Option<HostCertificates> {
        let mut bound = self.0;
        bound.sort_by_key(|bound| bound.certificate.algorithm());
        (!bound.is_empty()).then(|| HostCertificates(bound.into()))
    }
}
