//! Redirects to HTTPS, and the policy that spares browsers the next one. What counts is how the client has come as far as that can be told, never the socket:
//! behind a proxy that ends TLS that is always plain HTTP.

use http::{HeaderMap, HeaderValue, header::STRICT_TRANSPORT_SECURITY};

use super::{
    error::{ProxyError, Reason},
    exchange::Exchange,
    worker::Worker,
};
use crate::message::{self, Authority, Downstream};

/// Whether a redirect leads anywhere. A certificate authority asks for its challenges over plain HTTP. And where the request says that it was one over HTTPS
/// before, whoever says so isn't trusted, and would bring the next one in the same way, for ever.
pub(super) fn may_redirect(worker: &Worker, path: &str, downstream: &Downstream, headers: &HeaderMap) -> bool {
    if message::is_acme_challenge(path) {
        return false;
    }
    let claimed = message::claims_https(downstream, headers);
    if claimed {
        worker.redirect_withheld();
    }
    !claimed
}

/// The same address over HTTPS, on its usual port: the one that the client has named is plain HTTP's.
pub(super) fn location(authority: &Authority, path: &str, query: Option<&str>) -> Result<HeaderValue, ProxyError> {
    if authority.host().is_empty() {
        return Err(ProxyError::new(Reason::BadRequest, "a redirect needs a host"));
    }
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    HeaderValue::try_from(format!("https://{}{path}{mark}{query}", authority.host()))
        .map_err(|error| ProxyError::caused(Reason::BadRequest, "where to redirect to", error))
}

/// RFC 6797 section 7.2: over HTTPS alone.
pub(super) fn set_hsts(headers: &mut HeaderMap, exchange: &Exchange) {
    let policy = exchange.route.as_ref().and_then(|route| route.policy.hsts.as_ref());
    if let Some(hsts) = policy.filter(|_| exchange.https) {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
    }
}
