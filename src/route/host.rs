//! The hosts that rules name: exact, wildcard of one label, or any. Parsed once, into the same canonical form that a request's host has.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use thiserror::Error;

/// Longest DNS name in its text form, in bytes (RFC 1035 section 2.3.4, less the length octets).
const LONGEST_NAME: usize = 253;

/// The host of a rule, canonical: lower case, punycode, without a trailing dot. Ordered from the most to the least specific.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum HostPattern {
    /// One name.
    Exact(Arc<str>),
    /// `*.` and this name: matches exactly one label more than it.
    Wildcard(Arc<str>),
    /// A rule without a host: applies to all traffic.
    #[default]
    Any,
}

/// Why a rule's host was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadHost {
    /// The Kubernetes API text: "IPs are not allowed".
    #[error("is an IP address, and rules name hosts only by DNS name")]
    Address,
    /// A `*` elsewhere than as the whole first label.
    #[error("has a `*` that is not the whole first label: a wildcard is written `*.example.com`")]
    Wildcard,
    /// More than 253 bytes.
    #[error("is longer than 253 bytes")]
    TooLong,
    /// A character or an empty label that DNS names can't have.
    #[error("is no DNS name: labels are letters, digits and inner hyphens, separated by single dots")]
    Label,
    /// Not ASCII, and not a valid internationalised name either.
    #[error("is no valid internationalised domain name")]
    Idna,
}

impl FromStr for HostPattern {
    type Err = BadHost;

    /// The empty text is [`HostPattern::Any`], as an absent host is. Names that aren't ASCII must be punycode already.
    fn from_str(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(parent) => Ok(Self::Wildcard(dns_name(parent)?)),
            None => Ok(Self::Exact(dns_name(text)?)),
        }
    }
}

impl HostPattern {
    /// The wildcard that a name falls under, whether or not a rule has it.
    pub(crate) fn wildcard_above(&self) -> Option<Self> {
        match self {
            Self::Exact(name) => parent(name).map(|parent| Self::Wildcard(Arc::from(parent))),
            Self::Wildcard(_) | Self::Any => None,
        }
    }

    /// Whether a request's canonical host is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(name) => parent(host) == Some(name),
            Self::Any => true,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// The host less its first label: the key of the one wildcard that can match it.
pub(super) fn parent(host: &str) -> Option<&str> {
    host.split_once('.').filter(|(label, rest)| !label.is_empty() && !rest.is_empty()).map(|(_, rest)| rest)
}

/// Canonicalises and checks one name, as the API server's validation does (RFC 1123 subdomain), but takes upper case and a trailing dot too:
/// files are not checked by an API server.
fn dns_name(text: &str) -> Result<Arc<str>, BadHost> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if !name.is_ascii() {
        return Err(BadHost::Idna);
    }
    if name.contains('*') {
        return Err(BadHost::Wildcard);
    }
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(BadHost::Address);
    }
    if name.len() > LONGEST_NAME {
        return Err(BadHost::TooLong);
    }
    if !name.split('.').all(is_label) {
        return Err(BadHost::Label);
    }
    Ok(Arc::from(name))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parsed_into_canonical_form() {
        let cases = [
            ("", HostPattern::Any),
            ("a.example.com", HostPattern::Exact("a.example.com".into())),
            ("A.Example.COM.", HostPattern::Exact("a.example.com".into())),
            ("*.Example.com", HostPattern::Wildcard("example.com".into())),
            ("localhost", HostPattern::Exact("localhost".into())),
            ("1.2.3.4.example", HostPattern::Exact("1.2.3.4.example".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<HostPattern>(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a.".repeat(127) + "example";
        let cases = [
            ("*", BadHost::Wildcard),
            ("a.*.com", BadHost::Wildcard),
            ("*a.com", BadHost::Wildcard),
            ("*.*.com", BadHost::Wildcard),
            ("10.0.0.1", BadHost::Address),
            ("[::1]", BadHost::Address),
            ("::1", BadHost::Address),
            ("bücher.example", BadHost::Idna),
            ("a..b", BadHost::Label),
            ("-a.com", BadHost::Label),
            ("a-.com", BadHost::Label),
            ("a_b.com", BadHost::Label),
            ("a.com:80", BadHost::Label),
            ("a b", BadHost::Label),
            (".", BadHost::Label),
            ("*.", BadHost::Label),
            (long.as_str(), BadHost::TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<HostPattern>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_wildcard_matches_exactly_one_label() {
        let pattern = HostPattern::Wildcard("foo.com".into());
        for (host, expected) in [("a.foo.com", true), ("a.b.foo.com", false), ("foo.com", false), (".foo.com", false), ("afoo.com", false)]
        {
            assert_eq!(pattern.matches(host), expected, "{host}");
        }
    }
}
