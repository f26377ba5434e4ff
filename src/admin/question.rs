//! What `explain` is asked, and its answer: one form for the command line and the admin listener, so that both say the same.

use std::fmt::Write as _;

use http::Method;

use crate::{message, route::Snapshot};

/// A request that nobody sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    method: Method,
    /// Canonical.
    host: String,
    /// Normalised.
    path: String,
}

/// Why a question can't be answered: a real request of this kind would be answered 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    /// Neither http nor https.
    #[error("the URL's scheme must be http or https, not {0}")]
    Scheme(String),
    /// No valid host.
    #[error("the host {host:?} is not valid: {why}")]
    Host {
        /// As it was written.
        host: String,
        /// Why not.
        why: String,
    },
    /// No valid path.
    #[error("the path {path:?} is not valid: {why}; such a request is answered 400 bad_request")]
    Path {
        /// As it was written.
        path: String,
        /// Why not.
        why: String,
    },
    /// No valid method.
    #[error("{0:?} is not a method")]
    Method(String),
    /// No valid header.
    #[error("{0:?} is not a header of the form 'Name: value'")]
    Header(String),
}

impl Question {
    /// From a URL (`http://` may be left out), a method, and headers as `Name: value`, of which `Host` takes the place of the URL's host.
    pub fn new(url: &str, method: &str, headers: &[String]) -> Result<Self, BadQuestion> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| BadQuestion::Method(method.into()))?;
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => rest,
            // A colon and slashes further on belong to a query.
            Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => return Err(BadQuestion::Scheme(scheme.into())),
            _ => url,
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let path = if path.is_empty() { "/" } else { path };
        let mut authority = authority;
        for header in headers {
            let (name, value) = header.split_once(':').ok_or_else(|| BadQuestion::Header(header.clone()))?;
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(BadQuestion::Header(header.clone()));
            }
            if name.eq_ignore_ascii_case("host") {
                authority = value.trim();
            }
        }
        let bad_host = |why: String| BadQuestion::Host { host: authority.into(), why };
        let host = message::canonical_host(without_port(authority)).map_err(|error| bad_host(error.to_string()))?.into_owned();
        let path = message::normalize(path).map_err(|error| BadQuestion::Path { path: path.into(), why: error.to_string() })?.into_owned();
        Ok(Self { method, host, path })
    }

    /// Which rule wins, which lost and why, and where it leads.
    pub fn answer(&self, snapshot: &Snapshot) -> String {
        let Self { method, host, path } = self;
        // Writing to a String can't fail.
        let mut text = format!("method     {method}\n");
        if *method == Method::TRACE || *method == Method::CONNECT {
            let _ = write!(text, "request    {host} {path}\nanswer     405 method: TRACE and CONNECT are never passed on\n");
            return text;
        }
        let _ = write!(text, "{}", snapshot.explain(host, path));
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }
}

/// `host:8080` and `[::1]:8080` without the port; whatever else there is stays, and is refused as a host.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() || port.is_empty() => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_becomes_host_and_path() {
        for (url, headers, host, path) in [
            ("http://a.example/b", &[][..], "a.example", "/b"),
            ("HTTPS://A.Example:8443/b?c=d#e", &[], "a.example", "/b"),
            ("a.example", &[], "a.example", "/"),
            ("a.example?x=http://b/", &[], "a.example", "/"),
            ("a.example/x?y=http://b/", &[], "a.example", "/x"),
            ("http://127.0.0.1:8080/", &["X-A: b"], "127.0.0.1", "/"),
            ("http://127.0.0.1:8080/x", &["hOst: Shop.example:80"], "shop.example", "/x"),
        ] {
            let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
            let question = Question::new(url, "GET", &headers).unwrap();
            assert_eq!((question.host.as_str(), question.path.as_str()), (host, path), "{url}");
        }
    }

    #[test]
    fn port_is_cut_off_and_nothing_else() {
        for (authority, host) in [("a:80", "a"), ("a:", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a:99999", "a:99999")]
        {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn what_cant_be_asked_says_why() {
        for (url, method, header, expected) in [
            ("ftp://a/", "GET", None, "scheme must be http or https, not ftp"),
            ("http://a/", "G T", None, "\"G T\" is not a method"),
            ("http://a/", "GET", Some("nocolon"), "is not a header"),
            ("http://a/", "GET", Some("na me: x"), "is not a header"),
        ] {
            let headers: Vec<String> = header.into_iter().map(str::to_owned).collect();
            let error = Question::new(url, method, &headers).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn methods_that_are_never_passed_on_are_said_to_be_refused() {
        let answer = |method| Question::new("http://a/", method, &[]).unwrap().answer(&Snapshot::default());
        for method in ["TRACE", "CONNECT"] {
            assert!(answer(method).contains("405"), "{method}");
        }
        assert!(!answer("BREW").contains("405"));
    }
}
