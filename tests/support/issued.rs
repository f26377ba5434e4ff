//! Certificates that have signed themselves, and the Secrets that hold them.

#![allow(dead_code, unreachable_pub, reason = "shared by test crates, none of which needs all of it")]

use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub der: CertificateDer<'static>,
    /// As PEM.
    pub certificate: String,
    /// As PEM.
    pub key: String,
}

/// A new one for these names.
pub fn issue(algorithm: &'static SignatureAlgorithm, names: &[&str]) -> Issued {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    Issued { der: certificate.der().clone(), certificate: certificate.pem(), key: key.serialize_pem() }
}

/// One that may vouch for others.
pub struct Authority {
    /// As PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate of a client.
    pub fn client(&self, name: &str) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { der: certificate.der().clone(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A Secret that holds it, as people make them by hand.
    pub fn secret(&self, namespace: &str, name: &str) -> Value {
        Self::secret_of(&[self], namespace, name)
    }

    /// One that holds several.
    pub fn secret_of(authorities: &[&Self], namespace: &str, name: &str) -> Value {
        let all: String = authorities.iter().map(|authority| authority.certificate.as_str()).collect();
        let bytes = ByteString(all.into_bytes());
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": { "namespace": namespace, "name": name },
            "data": { "ca.crt": bytes },
        })
    }
}

impl Issued {
    /// A Secret of type kubernetes.io/tls that holds it, and it again as the one authority that vouches for it: as cert-manager writes them.
    pub fn secret(&self, namespace: &str, name: &str) -> Value {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "namespace": namespace, "name": name },
            "data": { "tls.crt": bytes(&self.certificate), "tls.key": bytes(&self.key), "ca.crt": bytes(&self.certificate) },
        })
    }
}
