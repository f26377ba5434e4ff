//! Certificates' challenges over HTTP (RFC 8555 section 8.3).

const CHALLENGES: &str = "/.well-known/acme-challenge";

/// Whether a normalised path is one that a certificate authority asks for: over plain HTTP, since there may be no certificate yet.
pub fn is_acme_challenge(path: &str) -> bool {
    below(path).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether it asks for the answer to one challenge, and can't be taken for anything else by whoever gets it: a token, which is base64url.
pub fn is_acme_token(path: &str) -> bool {
    below(path).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_token)
}

/// Whether a rule's path, of whichever type, is for challenges alone: one, as cert-manager writes it, or all.
pub fn is_for_acme_challenges(rule: &str) -> bool {
    below(rule).is_some_and(|rest| rest.is_empty() || rest == "/" || rest.strip_prefix('/').is_some_and(is_token))
}

fn below(path: &str) -> Option<&str> {
    path.strip_prefix(CHALLENGES)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_a_token_and_no_more() {
        for (path, challenge, token, rule) in [
            ("/.well-known/acme-challenge/aZ0_-", true, true, true),
            ("/.well-known/acme-challenge/a/b", true, false, false),
            ("/.well-known/acme-challenge/a/", true, false, false),
            ("/.well-known/acme-challenge/..%2F..%2Fsecret", true, false, false),
            ("/.well-known/acme-challenge/a;b", true, false, false),
            ("/.well-known/acme-challenge/a|/secret", true, false, false),
            ("/.well-known/acme-challenge/.*", true, false, false),
            ("/.well-known/acme-challenge/", true, false, true),
            ("/.well-known/acme-challenge", false, false, true),
            ("/.well-known/acme-challenges/a", false, false, false),
            ("/.well-known/", false, false, false),
            ("/", false, false, false),
        ] {
            assert_eq!((is_acme_challenge(path), is_acme_token(path), is_for_acme_challenges(path)), (challenge, token, rule), "{path}");
        }
    }
}
