//! Cookies that come in several fields, which only HTTP/2 allows.

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// Makes one `Cookie` field of several, as HTTP/1.1 and whoever reads one field alone need it (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    // Each was a valid value, and so is what stands between them.
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_cookie_in_their_order() {
        for (crumbs, expected) in
            [(&[][..], None), (&["a=1"], Some("a=1")), (&["a=1", "b=2; c=3", "d=\u{fc}"], Some("a=1; b=2; c=3; d=\u{fc}"))]
        {
            let mut headers = HeaderMap::new();
            for crumb in crumbs {
                headers.append(COOKIE, HeaderValue::from_bytes(crumb.as_bytes()).unwrap());
            }
            join_cookies(&mut headers);
            assert_eq!(
                headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>(),
                expected.map(str::as_bytes).into_iter().collect::<Vec<_>>()
            );
        }
    }
}
