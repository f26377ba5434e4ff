//! What an Ingress asks of the requests along its routes, and of the responses to them.

use std::fmt;

use http::HeaderValue;

/// See above. The default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// A request that came over plain HTTP, as far as that can be told, is answered with a redirect to HTTPS.
    pub https_only: bool,
    /// `Strict-Transport-Security`, for responses over HTTPS (RFC 6797 section 7.2) where the backend sends none.
    pub hsts: Option<HeaderValue>,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { https_only, hsts } = self;
        if *https_only {
            f.write_str("; https only")?;
        }
        match hsts {
            Some(hsts) => write!(f, "; hsts {}", hsts.to_str().unwrap_or_default()),
            None => Ok(()),
        }
    }
}
