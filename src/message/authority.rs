//! Whom a request is addressed to: its authority, out of `Host`, an absolute URI or `:authority`, checked and in canonical form. Which route
//! that leads to is not decided here.

use std::{borrow::Cow, net::Ipv6Addr, str::FromStr};

use http::{HeaderMap, HeaderValue, Uri, Version, header::HOST};
use idna::AsciiDenyList;

/// Bytes of a DNS name without its trailing dot (RFC 1035 section 2.3.4).
const NAME_BYTES: usize = 253;
/// Bytes of one label (as above).
const LABEL_BYTES: usize = 63;

/// A request's authority. Comparing and routing use [`Authority::host`]; the backend gets [`Authority::header`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    header: HeaderValue,
    host: Canonical,
    port: Option<u16>,
    from_uri: bool,
}

/// Nearly every client sends the host in its canonical form already: then it is a part of the header, and nothing is allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Canonical {
    Prefix(usize),
    Own(Box<str>),
}

/// Why an authority was refused; always 400 `bad_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthority {
    /// HTTP/1.1 without `Host`, or HTTP/2 without `:authority` and `Host`.
    #[error("no Host")]
    Missing,
    /// More than one `Host`.
    #[error("more than one Host")]
    Several,
    /// A host of no length.
    #[error("the host is empty")]
    Empty,
    /// Not a DNS name, nor an IP address.
    #[error("the host is not valid")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is not valid")]
    Port,
    /// An absolute URI that is not http or https.
    #[error("the scheme is not http or https")]
    Scheme,
    /// HTTP/2: `:authority` and `Host` name different authorities (RFC 9113 section 8.3.1).
    #[error(":authority and Host differ")]
    Differs,
}

/// The authority of a request.
///
/// HTTP/1.1 needs exactly one valid `Host`, HTTP/1.0 may have none: then the host is empty (RFC 9112 section 3.2). In absolute form the URI's
/// authority wins, but `Host` must still be valid. HTTP/2: `:authority`, or `Host` in its absence; both must agree.
///
/// A host is a DNS name (letters, digits, `-`, and `_`, which people use) or an IP address. RFC 3986's wider `reg-name`, with escapes and
/// `!$&'()*+,;=~`, is refused: no certificate and no Ingress can name such a host, and a comma in `X-Forwarded-Host` would deceive a backend.
pub fn authority(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Authority, BadAuthority> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadAuthority::Several);
    }
    let host = host.map(|value| Authority::parse(value.clone(), false)).transpose()?;
    let target = uri.authority().map(|text| from_uri(uri, text.as_str())).transpose()?;
    match (target, host) {
        (Some(target), Some(host)) if version >= Version::HTTP_2 && !target.equals(&host) => Err(BadAuthority::Differs),
        (Some(_), None) if version == Version::HTTP_11 => Err(BadAuthority::Missing),
        (Some(target), _) => Ok(target),
        (None, Some(host)) => Ok(host),
        (None, None) if version <= Version::HTTP_10 => Ok(Authority::absent()),
        (None, None) => Err(BadAuthority::Missing),
    }
}

/// The canonical form of a host without a port: lower case, without the one trailing dot it may have, IDNA as punycode, an IPv6 address in
/// brackets and in its shortest form (RFC 5952). Borrowed if that is what it is already. An Ingress's hosts go through this too.
pub fn canonical_host(host: &str) -> Result<Cow<'_, str>, BadAuthority> {
    canonical(host.as_bytes())
}

impl Authority {
    /// The host in canonical form (see [`canonical_host`]); empty if an HTTP/1.0 request named none.
    pub fn host(&self) -> &str {
        match &self.host {
            // A prefix was found to be ASCII without control characters, so that both steps succeed.
            Canonical::Prefix(end) => self.header.to_str().ok().and_then(|text| text.get(..*end)).unwrap_or(""),
            Canonical::Own(host) => host,
        }
    }

    /// What the backend gets as `Host`: what the client sent, or the URI's authority.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// The port, where one was named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Makes [`Authority::header`] the `Host` of `headers`. Costs nothing where it came from there.
    pub fn set_host(&self, headers: &mut HeaderMap) {
        if self.from_uri {
            headers.insert(HOST, self.header.clone());
        }
    }

    fn parse(header: HeaderValue, from_uri: bool) -> Result<Self, BadAuthority> {
        let (host, port) = split(header.as_bytes())?;
        let host = match canonical(host)? {
            Cow::Borrowed(host) => Canonical::Prefix(host.len()),
            Cow::Owned(host) => Canonical::Own(host.into_boxed_str()),
        };
        Ok(Self { header, host, port, from_uri })
    }

    /// `from_uri`, so that the backend, which is spoken to in HTTP/1.1, gets the `Host` that it may demand, if an empty one.
    fn absent() -> Self {
        Self { header: HeaderValue::from_static(""), host: Canonical::Prefix(0), port: None, from_uri: true }
    }

    fn equals(&self, other: &Self) -> bool {
        self.port == other.port && self.host() == other.host()
    }
}

fn from_uri(uri: &Uri, text: &str) -> Result<Authority, BadAuthority> {
    match uri.scheme_str() {
        // Schemes are lower-cased by the URI's parser; CONNECT's authority form has none.
        None | Some("http" | "https") => Authority::parse(HeaderValue::from_str(text).map_err(|_| BadAuthority::Host)?, true),
        Some(_) => Err(BadAuthority::Scheme),
    }
}

/// Host and port. `host:` is a host without a port (RFC 3986 section 3.2.3).
fn split(text: &[u8]) -> Result<(&[u8], Option<u16>), BadAuthority> {
    let end = if text.first() == Some(&b'[') {
        text.iter().position(|&byte| byte == b']').ok_or(BadAuthority::Host)? + 1
    } else {
        text.iter().position(|&byte| byte == b':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at_checked(end).ok_or(BadAuthority::Host)?;
    match rest {
        [] | [b':'] => Ok((host, None)),
        [b':', digits @ ..] => Ok((host, Some(port(digits)?))),
        _ => Err(BadAuthority::Host),
    }
}

fn port(digits: &[u8]) -> Result<u16, BadAuthority> {
    // `u16::from_str` takes a leading `+`.
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadAuthority::Port);
    }
    let number = str::from_utf8(digits).ok().and_then(|text| u16::from_str(text).ok());
    number.filter(|&number| number != 0).ok_or(BadAuthority::Port)
}

fn canonical(host: &[u8]) -> Result<Cow<'_, str>, BadAuthority> {
    if host.is_empty() {
        return Err(BadAuthority::Empty);
    }
    if let [b'[', literal @ .., b']'] = host {
        return ip_literal(host, literal);
    }
    if !host.is_ascii() {
        // Mapping may bring forth a trailing dot, a colon or anything else of ASCII: its result is checked as if it had been sent.
        let mapped = idna::domain_to_ascii_cow(host, AsciiDenyList::URL).map_err(|_| BadAuthority::Host)?;
        return name(mapped.as_bytes()).map(|host| Cow::Owned(host.into_owned()));
    }
    name(host)
}

fn name(host: &[u8]) -> Result<Cow<'_, str>, BadAuthority> {
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.len() > NAME_BYTES {
        return Err(BadAuthority::Host);
    }
    let mut upper = false;
    let mut label = 0;
    for &byte in host {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => {
                upper = true;
                label += 1;
            }
            b'.' if label > 0 => label = 0,
            _ => return Err(BadAuthority::Host),
        }
        if label > LABEL_BYTES {
            return Err(BadAuthority::Host);
        }
    }
    if label == 0 {
        return Err(BadAuthority::Host);
    }
    let text = str::from_utf8(host).map_err(|_| BadAuthority::Host)?;
    Ok(if upper { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) })
}

/// `host` is the literal with its brackets. A zone (`%25eth0`) means something on the client's machine only: refused.
fn ip_literal<'a>(host: &'a [u8], literal: &[u8]) -> Result<Cow<'a, str>, BadAuthority> {
    let address = str::from_utf8(literal).ok().and_then(|text| Ipv6Addr::from_str(text).ok()).ok_or(BadAuthority::Host)?;
    let shortest = format!("[{address}]");
    match str::from_utf8(host) {
        Ok(text) if text == shortest => Ok(Cow::Borrowed(text)),
        _ => Ok(Cow::Owned(shortest)),
    }
}

#[cfg(test)]
mod tests;
