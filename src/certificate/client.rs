//! Whom to believe that it is a client that may come in.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::trust::{BadAuthorities, parse_authorities};

/// The authorities that vouch for clients. Equal to another one if it believes the same.
pub struct ClientTrust {
    source: Arc<str>,
    authorities: Arc<[CertificateDer<'static>]>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// How handshakes with such clients are made, once there was one.
    config: OnceLock<Option<Arc<ServerConfig>>>,
}

impl ClientTrust {
    /// The authorities in PEM. `source` is who is named where people look.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(source: Arc<str>, pem: &[u8]) -> Result<Self, BadAuthorities> {
        let (roots, authorities) = parse_authorities(pem)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
        let verifier = builder.build().map_err(|_| BadAuthorities::Certificate)?;
        Ok(Self { source, authorities, verifier, config: OnceLock::new() })
    }

    /// Whether a chain of certificates, the client's own first, would do for a handshake at this time. That its key is the client's is for an earlier
    /// handshake to have proved.
    pub fn vouches_for(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        chain.split_first().is_some_and(|(own, issuers)| self.verifier.verify_client_cert(own, issuers, now).is_ok())
    }

    /// How handshakes with such clients are made, by whoever makes the first; `None`: they can't be.
    pub fn config(&self, make: impl FnOnce(Arc<dyn ClientCertVerifier>) -> Option<Arc<ServerConfig>>) -> Option<Arc<ServerConfig>> {
        self.config.get_or_init(|| make(Arc::clone(&self.verifier))).clone()
    }
}

impl PartialEq for ClientTrust {
    fn eq(&self, other: &Self) -> bool {
        let Self { source, authorities, verifier: _, config: _ } = self;
        *source == other.source && *authorities == other.authorities
    }
}

impl Eq for ClientTrust {}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTrust({})", self.source)
    }
}

impl fmt::Display for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}", self.source)
    }
}
