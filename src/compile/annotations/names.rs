//! Which annotations of ours there are, what one that there isn't was meant to be, and whether that may have been a protection, which then fails closed.

use super::{
    BACKEND_CA_SECRET, BACKEND_PROTOCOL, BACKEND_SERVER_NAME, BACKEND_TLS_VERIFY, CLIENT_CA_SECRET, DIAL, HSTS, PREFIX, SSL_REDIRECT,
    USE_REGEX,
};

/// Every annotation of ours, and where it may stand.
const KNOWN: [(&str, &[&str]); 9] = [
    (DIAL, &["Ingress", "Service"]),
    (USE_REGEX, &["Ingress"]),
    (BACKEND_PROTOCOL, &["Ingress", "Service"]),
    (BACKEND_CA_SECRET, &["Ingress"]),
    (BACKEND_SERVER_NAME, &["Ingress"]),
    (BACKEND_TLS_VERIFY, &["Ingress"]),
    (SSL_REDIRECT, &["Ingress"]),
    (HSTS, &["Ingress"]),
    (CLIENT_CA_SECRET, &["Ingress"]),
];

/// Those without which somebody would come in, or something go out in clear, who or what isn't to. Without the others that speak of TLS, a backend has to
/// prove more, not less.
const PROTECTING: [&str; 2] = [CLIENT_CA_SECRET, BACKEND_PROTOCOL];

/// How near a name must be to one of those to be called a spelling mistake, in edits.
const NEAR: usize = 3;

/// Parts of words that are about who may come in.
const PROTECTIVE: [&str; 17] = [
    "allow",
    "auth",
    "blacklist",
    "block",
    "cert",
    "client",
    "deny",
    "firewall",
    "jwt",
    "mtls",
    "oidc",
    "protect",
    "range",
    "restrict",
    "secure",
    "sso",
    "whitelist",
];
/// And words that are about that as a whole.
const PROTECTIVE_WORDS: [&str; 3] = ["ca", "ip", "waf"];

/// What is wrong with the name of an annotation.
pub(super) struct Misnamed {
    pub(super) message: String,
    pub(super) help: String,
    /// It may have been meant to protect what it stands on.
    pub(super) may_protect: bool,
}

/// Looks an annotation of ours up; `kind` is that of the object that it stands on.
pub(super) fn check(key: &str, kind: &str) -> Option<Misnamed> {
    let Some((known, kinds)) = KNOWN.iter().find(|(known, _)| *known == key) else {
        let key = &key.to_ascii_lowercase();
        let help = format!("did you mean `{}`?", nearest(key, kind));
        return Some(Misnamed { message: "there is no such annotation".to_owned(), help, may_protect: may_protect(key) });
    };
    (!kinds.contains(&kind)).then(|| Misnamed {
        message: format!("it has no meaning on a {kind}"),
        help: format!("write it on an {}", kinds.join(" or a ")),
        may_protect: PROTECTING.contains(known),
    })
}

fn may_protect(key: &str) -> bool {
    let mut words = key.strip_prefix(PREFIX).unwrap_or(key).split(['-', '.', '_']);
    PROTECTING.iter().any(|known| strsim::osa_distance(known, key) <= NEAR)
        || words.any(|word| PROTECTIVE_WORDS.contains(&word) || PROTECTIVE.iter().any(|part| word.contains(part)))
}

/// The known annotation that takes the fewest edits; one that goes on where this one ends goes before.
fn nearest(key: &str, kind: &str) -> &'static str {
    let here = KNOWN.iter().filter(|(_, kinds)| kinds.contains(&kind)).map(|(known, _)| *known);
    here.min_by_key(|known| (!known.starts_with(key), strsim::osa_distance(known, key))).unwrap_or(DIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protection_is_recognised_however_it_is_written() {
        for (name, kind, may_protect, nearest) in [
            ("client-ca-secert", "Ingress", true, Some(CLIENT_CA_SECRET)),
            ("client-ca", "Ingress", true, Some(CLIENT_CA_SECRET)),
            ("clientca-secret", "Ingress", true, Some(CLIENT_CA_SECRET)),
            ("cleint-ca-secret", "Ingress", true, Some(CLIENT_CA_SECRET)),
            ("Client_CA_Secret", "Ingress", true, Some(CLIENT_CA_SECRET)),
            ("ca-secret", "Ingress", true, None),
            ("auth-tls-secret", "Ingress", true, None),
            ("allowlist", "Ingress", true, None),
            ("basicauth", "Ingress", true, None),
            ("ipallowlist", "Ingress", true, None),
            ("source-range", "Ingress", true, None),
            ("ip-filter", "Service", true, None),
            ("jwt-issuer", "Ingress", true, None),
            ("backend-protocl", "Ingress", true, Some(BACKEND_PROTOCOL)),
            ("backend-protocl", "Service", true, Some(BACKEND_PROTOCOL)),
            ("backend-port", "Ingress", false, None),
            ("use-regexp", "Ingress", false, Some(USE_REGEX)),
            ("dail", "Service", false, Some(DIAL)),
            ("ssl-redirct", "Ingress", false, Some(SSL_REDIRECT)),
            ("unknown", "Service", false, None),
            ("", "Ingress", false, None),
        ] {
            let misnamed = check(&format!("{PREFIX}{name}"), kind).unwrap();
            assert_eq!(misnamed.may_protect, may_protect, "{name}");
            assert!(nearest.is_none_or(|nearest| misnamed.help.contains(&format!("`{nearest}`"))), "{name}: {}", misnamed.help);
        }
        for (known, kinds) in KNOWN {
            assert!(kinds.iter().all(|kind| check(known, kind).is_none()), "{known}");
        }
        assert!(check(CLIENT_CA_SECRET, "Service").is_some_and(|misplaced| misplaced.may_protect));
        assert!(check(USE_REGEX, "Service").is_some_and(|misplaced| !misplaced.may_protect));
    }
}
