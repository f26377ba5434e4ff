//! Whom to believe that it is the server it says: how handshakes with backends are made. Pure but for what is made once and kept.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::NOT_PEM;

/// What versions of HTTP are called in a handshake (RFC 7301; RFC 9113 section 3.2).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// See [`ALPN_HTTP1`].
pub const ALPN_HTTP2: &[u8] = b"h2";

/// Whether a server can have this name: a DNS name, or an address.
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

/// The authorities that vouch for servers, ready for handshakes. Equal to another one if it believes the same.
#[derive(Clone)]
pub struct ServerTrust {
    believed: Believed,
    configs: Configs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Believed {
    /// The authorities that browsers trust.
    Public,
    /// Those of a Secret, which is named where people look.
    Secret(Arc<str>, Arc<[CertificateDer<'static>]>),
    /// Whoever answers.
    Anyone,
}

/// One for each choice of versions that is offered, with the sessions that can be resumed.
#[derive(Clone)]
struct Configs {
    either: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Which versions of HTTP are offered to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    /// HTTP/2, and HTTP/1.1 where it doesn't speak that.
    Either,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

/// Why a Secret names no authorities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthorities {
    /// No PEM section `CERTIFICATE`.
    #[error("`ca.crt` holds no certificate")]
    None,
    /// Not PEM.
    #[error("`ca.crt` can't be read: {0}")]
    Pem(&'static str),
    /// Not X.509, or of no use.
    #[error("`ca.crt` holds a certificate that can't be one of an authority")]
    Certificate,
    /// The library knows no version of TLS.
    #[error("TLS can't be set up")]
    Tls,
}

impl ServerTrust {
    /// The authorities that browsers trust (Mozilla's, as they were when this was built).
    ///
    /// # Errors
    /// When the library can't make handshakes at all.
    pub fn public() -> Result<Arc<Self>, BadAuthorities> {
        static PUBLIC: LazyLock<Result<Arc<ServerTrust>, BadAuthorities>> = LazyLock::new(|| {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            Ok(Arc::new(ServerTrust { believed: Believed::Public, configs: Configs::new(&config(roots)?) }))
        });
        PUBLIC.clone()
    }

    /// Whoever answers: encrypted, and no proof of who it is.
    ///
    /// # Errors
    /// As for [`Self::public`].
    pub fn anyone() -> Result<Arc<Self>, BadAuthorities> {
        static ANYONE: LazyLock<Result<Arc<ServerTrust>, BadAuthorities>> = LazyLock::new(|| {
            let mut config = config(RootCertStore::empty())?;
            let verifier = AcceptsAnyone(aws_lc_rs::default_provider().signature_verification_algorithms);
            config.dangerous().set_certificate_verifier(Arc::new(verifier));
            Ok(Arc::new(ServerTrust { believed: Believed::Anyone, configs: Configs::new(&config) }))
        });
        ANYONE.clone()
    }

    /// The authorities in PEM, and nobody else. `source` is who is named where people look.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(source: Arc<str>, authorities: &[u8]) -> Result<Self, BadAuthorities> {
        let (roots, authorities) = parse_authorities(authorities)?;
        Ok(Self { believed: Believed::Secret(source, authorities), configs: Configs::new(&config(roots)?) })
    }

    /// How a handshake is made.
    pub fn config(&self, offer: Offer) -> &Arc<ClientConfig> {
        match offer {
            Offer::Either => &self.configs.either,
            Offer::Http1 => &self.configs.http1,
            Offer::Http2 => &self.configs.http2,
        }
    }
}

/// Authorities in PEM, each of them one.
pub(super) fn parse_authorities(pem: &[u8]) -> Result<(RootCertStore, Arc<[CertificateDer<'static>]>), BadAuthorities> {
    let authorities: Arc<[CertificateDer<'static>]> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| BadAuthorities::Pem(NOT_PEM))?;
    if authorities.is_empty() {
        return Err(BadAuthorities::None);
    }
    let mut roots = RootCertStore::empty();
    for authority in authorities.iter() {
        roots.add(authority.clone()).map_err(|_| BadAuthorities::Certificate)?;
    }
    Ok((roots, authorities))
}

impl PartialEq for ServerTrust {
    fn eq(&self, other: &Self) -> bool {
        self.believed == other.believed
    }
}

impl Eq for ServerTrust {}

impl fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTrust({self})")
    }
}

impl fmt::Display for ServerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.believed {
            Believed::Public => f.write_str("public authorities"),
            Believed::Secret(source, _) => write!(f, "authorities of Secret {source}"),
            Believed::Anyone => f.write_str("not verified"),
        }
    }
}

impl Configs {
    fn new(config: &ClientConfig) -> Self {
        let offering = |offered: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        Self { either: offering(&[ALPN_HTTP2, ALPN_HTTP1]), http1: offering(&[ALPN_HTTP1]), http2: offering(&[ALPN_HTTP2]) }
    }
}

fn config(roots: RootCertStore) -> Result<ClientConfig, BadAuthorities> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|_| BadAuthorities::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// For those who ask for it: any certificate will do, whose key the server has.
#[derive(Debug)]
struct AcceptsAnyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
