//! What a request has to be before anything is made of it: each check answers for itself.

use std::sync::Arc;

use h2::ext::Protocol;
use http::{
    HeaderMap, Method,
    header::{CONTENT_LENGTH, EXPECT},
    request,
};

use super::super::{
    connection::Connection,
    error::{ProxyError, Reason},
};
use crate::{
    certificate::ClientTrust,
    config::limits::Limits,
    message::{self, Upgrade},
    route::Route,
};

/// What the guard of an HTTP/1 connection has done before: how many fields there may be. A browser may send each cookie in a field of its own (RFC 9113
/// section 8.2.3), which are one again from here on; what bounds these is their size.
pub(super) fn check_fields(headers: &mut HeaderMap, limits: &Limits) -> Result<(), ProxyError> {
    message::join_cookies(headers);
    // The server has seen to it that all of them say the same.
    if let Some(length) = headers.get(CONTENT_LENGTH).cloned() {
        headers.insert(CONTENT_LENGTH, length);
    }
    if headers.len() > limits.request_header_count {
        return Err(Reason::HeaderLimit.into());
    }
    Ok(())
}

/// What the request asks its connection to become, unless its method is one that nobody may use.
pub(super) fn check_method(head: &request::Parts) -> Result<Upgrade, ProxyError> {
    if head.method == Method::CONNECT
        && head.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
    {
        return Ok(Upgrade::WebSocket);
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Reason::Method.into());
    }
    Ok(message::wants_upgrade(&head.method, head.version, &head.headers))
}

/// RFC 9110 section 10.1.1. The server sends `100 Continue` when the backend's connection first asks for the body.
pub(super) fn check_expectation(headers: &HeaderMap) -> Result<(), ProxyError> {
    if headers.get_all(EXPECT).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    Err(Reason::Expectation.into())
}

/// Whether the client is one that the route is for.
pub(super) fn check_client(
    connection: &Connection,
    route: &Route,
    vouched: Option<&Arc<ClientTrust>>,
    method: &Method,
    path: &str,
) -> Result<(), ProxyError> {
    let is_welcome = route.policy.clients.as_ref().is_none_or(|clients| vouched == Some(clients));
    // It may have a certificate, and wasn't asked for it.
    match connection.downstream().has_tls() {
        _ if is_welcome => Ok(()),
        true => Err(Reason::Misdirected.into()),
        false if route.policy.admits_challenges && *method == Method::GET && message::is_acme_token(path) => Ok(()),
        false => Err(Reason::Denied.into()),
    }
}
