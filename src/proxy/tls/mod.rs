//! TLS to clients: what all workers have in common of it, and the handshake of one connection.

mod handshake;
mod own;

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

pub(super) use self::handshake::handshake;
use super::Settings;
use crate::{
    certificate::{ALPN_HTTP1, ALPN_HTTP2},
    route::{Bound, HostCertificates},
    table,
};

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246), with forward secrecy and authenticated encryption alone, and 1.3.
    Tls12,
    /// TLS 1.3 alone (RFC 8446).
    Tls13,
}

/// Why TLS can't be served at all.
#[derive(Debug, thiserror::Error)]
#[error("can't set TLS up: {0}")]
pub struct TlsError(Box<dyn std::error::Error + Send + Sync>);

/// What all workers' handshakes are made by: certificates of the table in force, and one set of keys for session tickets.
pub(super) fn server_config(table: &table::Reader, settings: &Settings) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |error: rustls::Error| TlsError(Box::new(error));
    let versions: &[_] = match settings.tls_min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let own = own::certificate()?;
    let resolver = Resolver { table: table.watch(), own: HostCertificates::default_certificate(Arc::new(own)) };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(failed)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    let offered = if settings.http2 { &[ALPN_HTTP2, ALPN_HTTP1][..] } else { &[ALPN_HTTP1] };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    // Sessions are kept by clients, in tickets whose keys change every few hours, and not here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(failed)?;
    Ok(Arc::new(config))
}

/// A name as clients write it (RFC 6066 section 3), in the form that hosts have in the table.
pub(super) fn asked_for(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Finds the certificate for a handshake in the table in force.
#[derive(Debug)]
struct Resolver {
    table: table::Watched,
    /// For hosts without a certificate, where there is no default one.
    own: HostCertificates,
}

impl ResolvesServerCert for Resolver {
    /// The best certificate of the name asked for whose signatures the client understands.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(asked_for);
        let published = self.table.load();
        let certificates = published.snapshot.certificates(name.as_deref()).unwrap_or(&self.own);
        let usable = |Bound { certificate, ingress: _ }: &&Bound| certificate.key().key.choose_scheme(hello.signature_schemes()).is_some();
        certificates.iter().find(usable).map(|bound| Arc::clone(bound.certificate.key()))
    }
}
