//! TLS to clients: what all workers have in common of it, and the handshake of one connection.

mod handshake;
mod own;
mod turns;

use std::{io, sync::Arc};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

pub(super) use self::{handshake::handshake, turns::Turns};
use super::Settings;
use crate::{
    certificate::{ALPN_HTTP1, ALPN_HTTP2, ClientTrust},
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

static SINCE_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static SINCE_13: [&SupportedProtocolVersion; 1] = [&TLS13];

/// Why TLS can't be served at all.
#[derive(Debug, thiserror::Error)]
#[error("can't set TLS up: {0}")]
pub struct TlsError(Box<dyn std::error::Error + Send + Sync>);

/// What all workers' handshakes are made by: certificates of the table in force, and keys for session tickets.
#[derive(Debug)]
pub(super) struct Server {
    resolver: Arc<Resolver>,
    versions: &'static [&'static SupportedProtocolVersion],
    http2: bool,
    /// For hosts that ask for no certificate of their clients.
    open: Arc<ServerConfig>,
}

impl Server {
    pub(super) fn new(table: &table::Reader, settings: &Settings) -> Result<Self, TlsError> {
        let versions: &[_] = match settings.tls_min_version {
            MinVersion::Tls12 => &SINCE_12,
            MinVersion::Tls13 => &SINCE_13,
        };
        let own = HostCertificates::default_certificate(Arc::new(own::certificate()?));
        let resolver = Arc::new(Resolver { table: table.watch(), own });
        let open = config(&resolver, versions, settings.http2, None).map_err(|error| TlsError(Box::new(error)))?;
        Ok(Self { resolver, versions, http2: settings.http2, open })
    }

    /// How the handshake is made of a client that asks for this name, and who has to vouch for it.
    fn config(&self, name: Option<&str>) -> io::Result<(Arc<ServerConfig>, Option<Arc<ClientTrust>>)> {
        let published = self.resolver.table.load();
        let Some(clients) = name.and_then(|name| published.snapshot.clients(&asked_for(name))) else {
            return Ok((Arc::clone(&self.open), None));
        };
        // With keys of its own for tickets: a session that was begun without a certificate is none here.
        let make = |verifier| config(&self.resolver, self.versions, self.http2, Some(verifier)).ok();
        let config = clients.config(make).ok_or_else(|| io::Error::other("can't set up certificates of clients"))?;
        Ok((config, Some(Arc::clone(clients))))
    }
}

fn config(
    resolver: &Arc<Resolver>,
    versions: &[&'static SupportedProtocolVersion],
    http2: bool,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_protocol_versions(versions)?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Resolver>::clone(resolver);
    let mut config = builder.with_cert_resolver(resolver);
    let offered = if http2 { &[ALPN_HTTP2, ALPN_HTTP1][..] } else { &[ALPN_HTTP1] };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    // Sessions are kept by clients, in tickets whose keys change every few hours, and not here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
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
        // With none of them, the library says what is wrong: that there is nothing in common.
        certificates.iter().find(usable).or_else(|| certificates.iter().next()).map(|bound| Arc::clone(bound.certificate.key()))
    }
}
