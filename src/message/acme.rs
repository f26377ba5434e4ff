//! Certificates' challenges over HTTP (RFC 8555 section 8.3).

/// Whether a normalised path is one that a certificate authority asks for: over plain HTTP, since there may be no certificate yet.
pub fn is_acme_challenge(path: &str) -> bool {
    path.starts_with("/.well-known/acme-challenge/")
}
