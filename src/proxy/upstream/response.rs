//! Whether the head of a backend's response can be passed on: what the HTTP client lets through although two readers could understand it differently.

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
};

use super::super::error::{ProxyError, Reason};

/// # Errors
/// `UpstreamInvalid` for a protocol switch that nobody asked for, and for anything ambiguous about the body's length (RFC 9112 section 6.3).
pub(super) fn check<B>(response: &Response<B>, upgrade: bool, most_fields: usize) -> Result<(), ProxyError> {
    let invalid = |what| Err(ProxyError::new(Reason::UpstreamInvalid, what));
    let headers = response.headers();
    if headers.len() > most_fields {
        return invalid("too many fields");
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let websocket = headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !(upgrade && websocket) {
            return invalid("the backend switched protocols unasked");
        }
    }
    let Ok(coded) = single(headers, &TRANSFER_ENCODING) else { return invalid("more than one Transfer-Encoding") };
    let Ok(length) = single(headers, &CONTENT_LENGTH) else { return invalid("more than one Content-Length") };
    if coded.is_some() && length.is_some() {
        return invalid("Content-Length and Transfer-Encoding together");
    }
    if coded.is_some_and(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return invalid("a Transfer-Encoding other than one chunked");
    }
    if length.is_some_and(|length| length.is_empty() || !length.iter().all(u8::is_ascii_digit)) {
        return invalid("a malformed Content-Length");
    }
    Ok(())
}

fn single<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Result<Option<&'a [u8]>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first.map(HeaderValue::as_bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_responses_are_refused() {
        for (label, lines, valid) in [
            ("length", &[("content-length", "2")][..], true),
            ("chunked", &[("transfer-encoding", "Chunked")], true),
            ("neither", &[], true),
            ("both", &[("content-length", "2"), ("transfer-encoding", "chunked")], false),
            ("a list of lengths", &[("content-length", "2, 2")], false),
            ("two lengths", &[("content-length", "2"), ("content-length", "2")], false),
            ("another coding", &[("transfer-encoding", "x, chunked")], false),
            ("two codings", &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
        ] {
            let mut response = Response::new(());
            for (name, value) in lines {
                response.headers_mut().append(*name, value.parse().unwrap());
            }
            assert_eq!(check(&response, false, 100).is_ok(), valid, "{label}");
        }
    }

    #[test]
    fn switching_protocols_needs_a_request_for_it() {
        let response = |protocol: &str| Response::builder().status(101).header(UPGRADE, protocol).body(()).unwrap();
        assert!(check(&response("websocket"), true, 100).is_ok());
        assert!(check(&response("websocket"), false, 100).is_err());
        assert!(check(&response("h2c"), true, 100).is_err());
        assert!(check(&Response::builder().status(101).body(()).unwrap(), true, 100).is_err());
    }
}
