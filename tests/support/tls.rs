//! Secrets for the proxy, and clients that make their handshakes for real and accept any certificate, to say afterwards which one it was.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, SignatureScheme, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio_rustls::TlsConnector;

use super::{Issued, PATIENCE, Wire, accepts_any::AcceptsAny};

/// A Secret, as a document of a manifest.
pub fn secret(namespace: &str, name: &str, issued: &Issued) -> String {
    format!("---\n{}\n", issued.secret(namespace, name))
}

/// How a client makes its handshakes. Sessions are resumed between those of one.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// Sent before the handshake.
    before: &'static [u8],
}

/// A connection whose handshake is done.
pub struct Secured {
    /// What goes through it.
    pub wire: Wire,
    /// The server's own certificate.
    pub certificate: CertificateDer<'static>,
    pub version: ProtocolVersion,
    pub resumed: bool,
    pub protocol: Option<Vec<u8>>,
}

impl TlsClient {
    pub fn new() -> Self {
        Self::with(&[&rustls::version::TLS13, &rustls::version::TLS12], |_| true)
    }

    /// One that speaks these versions, and knows those signatures that `knows` says.
    pub fn with(versions: &[&'static SupportedProtocolVersion], knows: impl Fn(SignatureScheme) -> bool) -> Self {
        let provider = aws_lc_rs::default_provider();
        let verifier = AcceptsAny::new(&provider, knows);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { config: Arc::new(config), before: b"" }
    }

    /// One that has a certificate, if it is asked for one.
    pub fn known_by(issued: &Issued, protocols: &[&str]) -> Self {
        let provider = aws_lc_rs::default_provider();
        let verifier = AcceptsAny::new(&provider, |_| true);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_client_auth_cert(vec![issued.der.clone()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config), before: b"" }
    }

    /// One whose connections begin with these bytes.
    pub fn behind(self, before: &'static [u8]) -> Self {
        Self { before, ..self }
    }

    /// One that offers these versions of HTTP.
    pub fn offering(protocols: &[&str]) -> Self {
        let Self { config, before } = Self::new();
        let mut config = (*config).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config), before }
    }

    /// Asks for `name`, or for none.
    #[track_caller]
    pub fn connect(&self, address: SocketAddr, name: Option<&str>) -> Secured {
        self.try_connect(address, name).unwrap_or_else(|error| panic!("no handshake with {address} for {name:?}: {error}"))
    }

    /// As [`Self::connect`], where the handshake may fail.
    pub fn try_connect(&self, address: SocketAddr, name: Option<&str>) -> Result<Secured, String> {
        // An address is no name, and isn't sent.
        let name = name.map_or_else(
            || ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST)),
            |name| ServerName::try_from(name.to_owned()).unwrap(),
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let (sender, receiver) = mpsc::channel();
        let (config, before) = (Arc::clone(&self.config), self.before);
        thread::spawn(move || bridge(config, before, address, name, far, &sender));
        let (certificate, version, resumed, protocol) = receiver.recv_timeout(PATIENCE).map_err(|error| error.to_string())??;
        Ok(Secured { wire: Wire::new(near), certificate, version, resumed, protocol })
    }
}

type Shaken = (CertificateDer<'static>, ProtocolVersion, bool, Option<Vec<u8>>);

/// Carries bytes between a socket of the test and a connection with TLS.
fn bridge(
    config: Arc<ClientConfig>,
    before: &[u8],
    address: SocketAddr,
    name: ServerName<'static>,
    far: TcpStream,
    told: &mpsc::Sender<Result<Shaken, String>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(before).await.unwrap();
        match TlsConnector::from(config).connect(name, socket).await {
            Err(error) => told.send(Err(error.to_string())).unwrap(),
            Ok(mut secured) => {
                let (_, session) = secured.get_ref();
                let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
                let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
                let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
                told.send(Ok((certificate, session.protocol_version().unwrap(), resumed, protocol))).unwrap();
                far.set_nonblocking(true).unwrap();
                let mut far = tokio::net::TcpStream::from_std(far).unwrap();
                // Either end may go first, and in any way.
                let _ = copy_bidirectional(&mut far, &mut secured).await;
            }
        }
    });
}
