//! Who the client really is, and which scheme it used: one answer for logs, limits, allow lists, redirects and forwarded headers alike.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AsHeaderName};

use super::{
    forwarded::{X_FORWARDED_FOR, X_FORWARDED_PROTO},
    peers::{Peer, Trust},
};
use crate::config::limits;

pub(super) const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
pub(super) const CF_VISITOR: HeaderName = HeaderName::from_static("cf-visitor");

/// What holds for every request of a client's connection; made once, when it is accepted.
#[derive(Debug, Clone)]
pub struct Downstream {
    pub(super) peer: IpAddr,
    pub(super) class: Peer,
    pub(super) tls: bool,
    /// The proxy that has passed it on says that it came with TLS there.
    pub(super) claims_tls: bool,
    /// Both formatted once, since every request forwards them.
    pub(super) peer_text: HeaderValue,
    pub(super) port_text: HeaderValue,
}

/// The scheme that the client used, as far as we are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS, here or at a proxy before us.
    Https,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The client's address; never an IPv4-mapped one.
    pub client: IpAddr,
    /// The client's scheme. Redirects ask this, never the socket: behind Cloudflare's Flexible SSL the socket is always http.
    pub scheme: Scheme,
    /// What the connection's peer counts.
    pub peer: Peer,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Downstream {
    /// `peer` is the connection's other end, or the source that PROXY protocol names, where that is enabled. `port` is that of our socket.
    pub fn new(peer: IpAddr, tls: bool, port: u16, trust: &Trust) -> Self {
        let peer = peer.to_canonical();
        Self {
            peer,
            class: trust.classify(peer),
            tls,
            claims_tls: false,
            peer_text: address_value(peer),
            port_text: HeaderValue::from(port),
        }
    }

    /// The same for a connection that was passed on for somebody else. `claims_tls`: who is said to have come with TLS, for [`super::claims_https`] alone.
    #[must_use]
    pub fn for_peer(&self, peer: IpAddr, claims_tls: bool, trust: &Trust) -> Self {
        let peer = peer.to_canonical();
        Self { peer, class: trust.classify(peer), claims_tls, peer_text: address_value(peer), ..self.clone() }
    }

    /// The peer's address, never an IPv4-mapped one.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether our socket has TLS.
    pub fn has_tls(&self) -> bool {
        self.tls
    }

    /// What the peer counts.
    pub fn class(&self) -> Peer {
        self.class
    }
}

/// Who sent a request; `headers` are those received, before anything was stripped.
///
/// The client is `CF-Connecting-IP` if the peer is Cloudflare; else the right-most entry of `X-Forwarded-For` that isn't trusted itself, if the
/// peer is trusted (the left-most if all are); else the peer. An entry that is no address ends the search at the one before it.
///
/// The scheme is https if our socket has TLS; else what a trusted peer's `X-Forwarded-Proto` says (its last element, written by the nearest
/// proxy); else what Cloudflare's `CF-Visitor` says; else http.
pub fn identify(downstream: &Downstream, headers: &HeaderMap, trust: &Trust) -> Identity {
    let peer = downstream.class;
    let claimed_client = match peer {
        Peer::Untrusted => None,
        Peer::Trusted => forwarded_client(headers, trust),
        Peer::Cloudflare => cf_connecting_ip(headers).or_else(|| forwarded_client(headers, trust)),
    };
    let claimed_scheme = match peer {
        _ if downstream.tls => Some(Scheme::Https),
        Peer::Untrusted => None,
        Peer::Trusted => forwarded_scheme(headers),
        Peer::Cloudflare => forwarded_scheme(headers).or_else(|| cf_visitor(headers)),
    };
    Identity { client: claimed_client.unwrap_or(downstream.peer), scheme: claimed_scheme.unwrap_or(Scheme::Http), peer }
}

/// An address as the value of a header.
pub(super) fn address_value(address: IpAddr) -> HeaderValue {
    let text = match address {
        IpAddr::V4(address) => dotted(address),
        IpAddr::V6(address) => address.to_string(),
    };
    // An address's text is ASCII, so that this can't fail.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// As the library writes it, without its machinery for formatting: a request from a trusted proxy has one, and a new connection.
fn dotted(address: Ipv4Addr) -> String {
    let mut text = String::with_capacity("255.255.255.255".len());
    for octet in address.octets() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// The value of a header that is there exactly once.
fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

fn cf_connecting_ip(headers: &HeaderMap) -> Option<IpAddr> {
    single(headers, &CF_CONNECTING_IP).and_then(|text| IpAddr::from_str(text.trim()).ok()).map(|address| address.to_canonical())
}

/// `CF-Visitor: {"scheme":"https"}`. One known key: no need for a JSON parser.
pub(super) fn cf_visitor(headers: &HeaderMap) -> Option<Scheme> {
    let (_, after_key) = single(headers, &CF_VISITOR)?.split_once("\"scheme\"")?;
    let value = after_key.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    scheme(value.split_once('"')?.0)
}

fn forwarded_scheme(headers: &HeaderMap) -> Option<Scheme> {
    scheme(headers.get_all(&X_FORWARDED_PROTO).into_iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim())
}

/// `ws` and `wss` are what Traefik sends for a WebSocket.
pub(super) fn scheme(text: &str) -> Option<Scheme> {
    if text.eq_ignore_ascii_case("https") || text.eq_ignore_ascii_case("wss") {
        Some(Scheme::Https)
    } else if text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

/// Walks `X-Forwarded-For` from its right end. Each entry was written by the hop to its right, so that it is worth as much as that hop.
fn forwarded_client(headers: &HeaderMap, trust: &Trust) -> Option<IpAddr> {
    let lines = headers.get_all(&X_FORWARDED_FOR).into_iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    let mut client = None;
    for entry in entries.take(limits::FORWARDED_FOR_ENTRIES) {
        let entry = entry.trim_ascii();
        if entry.is_empty() {
            continue; // RFC 9110 section 5.6.1: empty elements don't count
        }
        let Some(address) = forwarded_address(entry) else { break };
        client = Some(address);
        if trust.classify(address) == Peer::Untrusted {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:1234`: IIS and Azure add ports.
fn forwarded_address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port_is_valid = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return Ipv6Addr::from_str(address).ok().filter(|_| port_is_valid).map(|address| IpAddr::V6(address).to_canonical());
    }
    if let Ok(address) = IpAddr::from_str(text) {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    Ipv4Addr::from_str(address).ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && u16::from_str(text).is_ok()
}

#[cfg(test)]
mod tests;
