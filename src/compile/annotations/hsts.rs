//! `nodegate.dev/hsts`: a policy that browsers keep for as long as it says, so that a mistake in it is worth an error.

use http::HeaderValue;

/// Seconds that a browser may keep it: a policy for less is a way to try it out, one without a number means nothing (RFC 6797 section 6.1.1).
const MAX_AGE: &str = "max-age";

/// The field's value; what is wrong with it otherwise. `off` is none.
pub(super) fn parse(text: &str) -> Result<Option<HeaderValue>, &'static str> {
    if text == "off" {
        return Ok(None);
    }
    let (mut max_age, mut seen) = (false, Vec::new());
    for directive in text.split(';').map(str::trim) {
        let (name, value) = directive.split_once('=').map_or((directive, None), |(name, value)| (name.trim(), Some(value.trim())));
        let name = name.to_ascii_lowercase();
        match (name.as_str(), value) {
            (MAX_AGE, Some(seconds))
                if !seconds.is_empty() && seconds.len() < 12 && seconds.bytes().all(|digit| digit.is_ascii_digit()) =>
            {
                max_age = true;
            }
            ("includesubdomains" | "preload", None) => {}
            _ => return Err("it is made of max-age=SECONDS, includeSubDomains and preload"),
        }
        if seen.contains(&name) {
            return Err("nothing may stand in it twice");
        }
        seen.push(name);
    }
    if !max_age {
        return Err("it has no max-age=SECONDS");
    }
    HeaderValue::from_str(text).map(Some).map_err(|_| "it isn't plain text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_what_the_standard_says() {
        for (text, valid) in [
            ("max-age=31536000", true),
            ("max-age=0", true),
            ("Max-Age=300; includeSubDomains; preload", true),
            ("off", true),
            ("", false),
            ("includeSubDomains", false),
            ("max-age", false),
            ("max-age=", false),
            ("max-age=one", false),
            ("max-age=1 year", false),
            ("max-age=1; max-age=2", false),
            ("max-age=1; preload=1", false),
            ("max-age=1; x", false),
            ("max-age=1;\r\nx: y", false),
        ] {
            assert_eq!(parse(text).is_ok(), valid, "{text:?}");
        }
        assert_eq!(parse("off"), Ok(None));
    }
}
