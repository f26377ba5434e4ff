//! A TLS certificate with its private key, as a Secret of type kubernetes.io/tls holds the two: parsed, and checked against each other. Pure: whether it
//! has expired is for those to say who have a clock.

mod client;
mod trust;

use std::{fmt, sync::Arc};

use rustls::{
    SignatureAlgorithm,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

pub use client::ClientTrust;
pub use trust::{ALPN_HTTP1, ALPN_HTTP2, BadAuthorities, Offer, ServerTrust, is_server_name};

// What the libraries say is left out: they quote what they can't read, which may be a key, and it would be shown to whoever may read Events.
const NOT_PEM: &str = "it is damaged PEM: each BEGIN and END stands on a line of its own";
const NOT_X509: &str = "it is no X.509 certificate";

/// A chain of certificates, and the key of the first.
#[derive(Clone)]
pub struct Certificate {
    source: Arc<str>,
    key: Arc<CertifiedKey>,
    /// In lower case.
    names: Box<[Box<str>]>,
    not_after: i64,
}

/// What a key signs with. The best first: of those that a client knows, it gets the first that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// ECDSA, on P-256, P-384 or P-521.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

/// Why a certificate and a key are of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// No PEM section `CERTIFICATE`.
    #[error("`tls.crt` holds no certificate")]
    NoCertificate,
    /// Not PEM, or not X.509.
    #[error("`tls.crt` can't be read: {0}")]
    Certificate(&'static str),
    /// No PEM section `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
    #[error("`tls.key` holds no private key (one that is encrypted can't be used)")]
    NoKey,
    /// Not PEM, or of a kind that isn't supported.
    #[error("`tls.key` can't be used: {0}")]
    Key(&'static str),
    /// The key is another certificate's.
    #[error("`tls.key` is not the key of the first certificate in `tls.crt`")]
    Mismatch,
}

impl Certificate {
    /// From PEM: a chain, the server's own certificate first, and its key. `source` is who is named where people look.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(source: Arc<str>, chain: &[u8], key: &[u8]) -> Result<Self, BadCertificate> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| BadCertificate::Certificate(NOT_PEM))?;
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Ok(key) => key,
            Err(rustls::pki_types::pem::Error::NoItemsFound) => return Err(BadCertificate::NoKey),
            Err(_) => return Err(BadCertificate::Key(NOT_PEM)),
        };
        Self::from_der(source, chain, &key)
    }

    /// The same, decoded.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_der(source: Arc<str>, chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<Self, BadCertificate> {
        let own = chain.first().ok_or(BadCertificate::NoCertificate)?;
        let (_, parsed) = parse_x509_certificate(own).map_err(|_| BadCertificate::Certificate(NOT_X509))?;
        let not_after = parsed.validity().not_after.timestamp();
        let alternative = parsed.subject_alternative_name().map_err(|_| BadCertificate::Certificate(NOT_X509))?;
        let general = alternative.iter().flat_map(|extension| &extension.value.general_names);
        let names = general.filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None });
        let names = names.map(|name| name.to_ascii_lowercase().into_boxed_str()).collect();
        let key = aws_lc_rs::sign::any_supported_type(key)
            .map_err(|_| BadCertificate::Key("it is no RSA, ECDSA or Ed25519 key, or is damaged"))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => Ok(Self { source, key: Arc::new(key), names, not_after }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(BadCertificate::Mismatch),
            Err(_) => Err(BadCertificate::Certificate(NOT_X509)),
        }
    }

    /// Where it came from: a Secret's `namespace/name`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the TLS server signs with.
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// What its key signs with.
    pub fn algorithm(&self) -> Algorithm {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => Algorithm::Ecdsa,
            SignatureAlgorithm::ED25519 => Algorithm::Ed25519,
            _ => Algorithm::Rsa,
        }
    }

    /// The second in which it expires, since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether a client that asks for this host accepts its names (RFC 9525 section 6.3). `*.` and a name asks for all hosts right below that.
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| **name == *host || name.strip_prefix("*.").is_some_and(|parent| Some(parent) == wildcard))
    }
}

/// Two are equal when no client could tell them apart, nor anybody who asks where they came from.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        // Of one certificate there is one key.
        self.source == other.source && self.key.cert == other.key.cert
    }
}

impl Eq for Certificate {}

/// Without the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("source", &self.source).field("names", &self.names).finish_non_exhaustive()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}

#[cfg(test)]
mod tests;
