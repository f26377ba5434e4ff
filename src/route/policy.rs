//! What an Ingress asks of the requests along its routes, and of the responses to them.

use std::{fmt, sync::Arc};

use http::HeaderValue;

use crate::certificate::ClientTrust;

/// See above. The default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// A request that came over plain HTTP, as far as that can be told, is answered with a redirect to HTTPS.
    pub https_only: bool,
    /// `Strict-Transport-Security`, for responses over HTTPS (RFC 6797 section 7.2) where the backend sends none.
    pub hsts: Option<HeaderValue>,
    /// Only clients with a certificate that these authorities vouch for.
    pub clients: Option<Arc<ClientTrust>>,
    /// Certificate authorities, which have no such certificate, get answers to their challenges over plain HTTP nevertheless.
    pub admits_challenges: bool,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { https_only, hsts, clients, admits_challenges } = self;
        if *https_only {
            f.write_str("; https only")?;
        }
        if let Some(hsts) = hsts {
            write!(f, "; hsts {}", hsts.to_str().unwrap_or_default())?;
        }
        if let Some(clients) = clients {
            write!(f, "; clients by {clients}")?;
        }
        if *admits_challenges { f.write_str(", and challenges") } else { Ok(()) }
    }
}
