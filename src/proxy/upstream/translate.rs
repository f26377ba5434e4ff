//! A request that was made for one version of HTTP, as another one says the same.

use http::{
    Request, Uri, Version,
    header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{
    super::body::{RequestBody, is_chunked},
    destination::{Destination, Transport},
};
use crate::message;

/// For a stream of HTTP/2: the authority is part of the target, and framing is the connection's matter (RFC 9113 sections 8.2.2 and 8.3.1).
pub(super) fn to_http2(request: &mut Request<RequestBody>, destination: &Destination) {
    *request.version_mut() = Version::HTTP_2;
    for name in [TRANSFER_ENCODING, CONNECTION, UPGRADE] {
        request.headers_mut().remove(name);
    }
    message::detach(request.headers_mut());
    if request.uri().authority().is_some() {
        return;
    }
    let host = request.headers_mut().remove(HOST);
    let named = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    // HTTP/1.0 can do without a host.
    let authority = named.or_else(|| Authority::try_from(destination.address.to_string()).ok());
    let scheme = match destination.transport {
        Transport::Http1 | Transport::H2c => Scheme::HTTP,
        Transport::Tls(..) => Scheme::HTTPS,
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme);
    parts.authority = authority;
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// For a connection with HTTP/1.1, which the request was made for: undoes what a first attempt has done.
pub(super) fn to_http1(request: &mut Request<RequestBody>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    *request.version_mut() = Version::HTTP_11;
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = parts.authority.and_then(|authority| HeaderValue::try_from(authority.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = parts.path_and_query.map(Uri::from).unwrap_or_default();
    if is_chunked(request.body()) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
