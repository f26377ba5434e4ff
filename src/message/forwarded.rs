//! What the backend is told about the client: `X-Forwarded-*`, `X-Real-IP`, `X-Request-Id`, Cloudflare's headers. Nothing that a peer may not
//! say passes. For after `strip_request`: else `Connection` could name what is set here.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    authority::Authority,
    identity::{Downstream, Identity, Scheme, address_value, scheme},
    peers::Peer,
};
use crate::config::limits;

/// The id of a request, for logs on both sides.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The headers of Cloudflare's that say who the visitor is. A trusted peer that is not Cloudflare can't know better than its `X-Forwarded-For`.
const VISITOR: [&str; 6] = ["cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4", "cf-ipcountry", "cf-visitor", "true-client-ip"];

/// Sets the forwarded headers, and drops what may not pass.
///
/// | | untrusted peer | trusted peer | Cloudflare |
/// |---|---|---|---|
/// | `X-Forwarded-For` | the peer | kept, the peer appended | as trusted |
/// | `X-Forwarded-Proto` | the scheme | kept if valid | as trusted |
/// | `X-Forwarded-Host`, `-Port` | ours | kept | ours: Cloudflare passes what its visitor sent |
/// | other `X-Forwarded-*`, `Forwarded` | dropped | kept | dropped, for the same reason |
/// | `X-Real-IP` | the client | the client: there is one answer | the client |
/// | `CF-*`, `True-Client-IP` | dropped | kept, but for those that name the visitor | kept |
///
/// Of several lines of a header that has one value the last is kept, which the nearest proxy wrote; `X-Forwarded-For` is joined to one line. Spellings
/// with underscores are dropped whoever sent them: CGI and WSGI backends can't tell `X_Forwarded_For` from the real one. Our port is that of
/// our socket, or 443 where a proxy before us ended TLS (as ingress-nginx does).
pub fn set_forwarded(headers: &mut HeaderMap, downstream: &Downstream, identity: &Identity, authority: &Authority) {
    drop_forbidden(headers, identity.peer);
    let (keeps_chain, keeps_target) = match identity.peer {
        Peer::Untrusted => (false, false),
        Peer::Trusted => (true, true),
        Peer::Cloudflare => (true, false),
    };

    let chain = if keeps_chain { appended(headers, &downstream.peer_text) } else { None };
    headers.insert(X_FORWARDED_FOR, chain.unwrap_or_else(|| downstream.peer_text.clone()));

    if !(keeps_chain && keep_last(headers, &X_FORWARDED_PROTO, is_scheme)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(identity.scheme.as_str()));
    }
    if !(keeps_target && keep_last(headers, &X_FORWARDED_HOST, is_something)) {
        if authority.host().is_empty() {
            headers.remove(&X_FORWARDED_HOST);
        } else {
            headers.insert(X_FORWARDED_HOST, authority.header().clone());
        }
    }
    if !(keeps_target && keep_last(headers, &X_FORWARDED_PORT, is_something)) {
        let ended_before_us = identity.scheme == Scheme::Https && !downstream.tls;
        headers.insert(X_FORWARDED_PORT, if ended_before_us { HeaderValue::from_static("443") } else { downstream.port_text.clone() });
    }

    let client = if identity.client == downstream.peer { downstream.peer_text.clone() } else { address_value(identity.client) };
    headers.insert(X_REAL_IP, client);
}

/// The request's id: what a trusted peer sent, if it is one value of 1 to [`limits::REQUEST_ID_BYTES`] printable ASCII characters; else what
/// `make` returns. It is set in `headers` too.
pub fn set_request_id(headers: &mut HeaderMap, peer: Peer, make: impl FnOnce() -> HeaderValue) -> HeaderValue {
    let kept = match peer {
        Peer::Untrusted => None,
        Peer::Trusted | Peer::Cloudflare => {
            let mut values = headers.get_all(&X_REQUEST_ID).into_iter();
            values.next().filter(|_| values.next().is_none()).filter(|id| is_request_id(id)).cloned()
        }
    };
    kept.unwrap_or_else(|| {
        let id = make();
        headers.insert(X_REQUEST_ID, id.clone());
        id
    })
}

fn is_request_id(id: &HeaderValue) -> bool {
    (1..=limits::REQUEST_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// One pass over the names. Nearly always there is nothing to drop, and nothing is allocated.
fn drop_forbidden(headers: &mut HeaderMap, peer: Peer) {
    let forbidden: Vec<HeaderName> = headers.keys().filter(|name| is_forbidden(name.as_str(), peer)).cloned().collect();
    for name in forbidden {
        headers.remove(name);
    }
    if peer == Peer::Cloudflare {
        // Cloudflare sends each once. Two of one would mean that somebody else wrote one of them.
        for name in VISITOR {
            if headers.get_all(name).iter().nth(1).is_some() {
                headers.remove(name);
            }
        }
    }
}

/// Whether a header of this name says who the client is, in any spelling. `name` is in lower case.
pub(super) fn names_client(name: &str) -> bool {
    ["x-forwarded-", "cf-"].iter().any(|prefix| begins(name, prefix))
        || ["forwarded", "x-real-ip", "x-request-id", "true-client-ip"].iter().any(|other| is(name, other))
}

/// `name` is in lower case. The headers that are set in any case need not be dropped before, but for their other spellings.
fn is_forbidden(name: &str, peer: Peer) -> bool {
    // All that concern us begin with one of these letters: most headers are done here.
    if !matches!(name.as_bytes().first(), Some(b'x' | b'f' | b'c' | b't')) {
        return false;
    }
    let forwarded = begins(name, "x-forwarded-");
    let cloudflare = begins(name, "cf-") || is(name, "true-client-ip");
    let set_always = is(name, "x-real-ip") || is(name, "x-request-id");
    if name.as_bytes().contains(&b'_') {
        return forwarded || cloudflare || set_always;
    }
    let set_here = || [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT].iter().any(|header| header == name);
    match peer {
        Peer::Untrusted => cloudflare || name == "forwarded" || (forwarded && !set_here()),
        Peer::Trusted => cloudflare && VISITOR.contains(&name),
        Peer::Cloudflare => name == "forwarded" || (forwarded && !set_here()),
    }
}

/// Whether `name`, its underscores read as hyphens, begins with `prefix`.
fn begins(name: &str, prefix: &str) -> bool {
    name.as_bytes()
        .get(..prefix.len())
        .is_some_and(|start| start.iter().zip(prefix.as_bytes()).all(|(&a, &b)| a == b || (a == b'_' && b == b'-')))
}

fn is(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins(name, other)
}

/// All of `X-Forwarded-For` in one line, with `peer` at its end; none if there is nothing of it.
fn appended(headers: &HeaderMap, peer: &HeaderValue) -> Option<HeaderValue> {
    let mut chain = Vec::with_capacity(64);
    for line in headers.get_all(&X_FORWARDED_FOR) {
        if !line.as_bytes().trim_ascii().is_empty() {
            chain.extend_from_slice(line.as_bytes());
            chain.extend_from_slice(b", ");
        }
    }
    if chain.is_empty() {
        return None;
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).ok()
}

/// Leaves only the last line of a header, if that is a value as it should be. False: nothing was changed.
fn keep_last(headers: &mut HeaderMap, name: &HeaderName, is_valid: fn(&str) -> bool) -> bool {
    let mut lines = headers.get_all(name).into_iter();
    let Some(last) = lines.next_back().filter(|value| value.to_str().is_ok_and(is_valid)) else { return false };
    if lines.next().is_some() {
        let last = last.clone();
        headers.insert(name, last);
    }
    true
}

fn is_scheme(value: &str) -> bool {
    value.rsplit(',').next().is_some_and(|last| scheme(last.trim()).is_some())
}

fn is_something(value: &str) -> bool {
    !value.is_empty()
}

#[cfg(test)]
mod tests;
