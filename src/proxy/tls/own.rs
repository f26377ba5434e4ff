//! The certificate that is served where nobody has given one: self-signed, made at the start, and different after each.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::TlsError;
use crate::certificate::Certificate;

/// Where people look, it is called so.
const NAME: &str = "self-signed";
/// In the certificate, for whoever sees it in a browser. The name can't exist (RFC 2606).
const COMMON_NAME: &str = "Nodegate's self-signed certificate";
const HOST: &str = "nodegate.invalid";

pub(super) fn certificate() -> Result<Certificate, TlsError> {
    let failed = |error: rcgen::Error| TlsError(Box::new(error));
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Certificate::from_der(Arc::from(NAME), vec![certificate.der().clone()], &der).map_err(|error| TlsError(Box::new(error)))
}
