//! Our own answers: status, reason code, and a short body as text, JSON or HTML. They never tell addresses or names of the inside.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Version,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SERVER},
};

use super::{body::ResponseBody, error::Reason};
use crate::message;

/// The header that carries the reason code.
pub(crate) const REASON_HEADER: &str = "x-nodegate-reason";

/// Seconds after which an overloaded proxy may be asked again.
const RETRY_AFTER_SECONDS: &str = "1";

/// What may be asked instead of what may not (RFC 9110 section 15.5.6). Other methods pass as well; a list has an end.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The name we give ourselves where the backend gave none.
pub(crate) const SERVER_NAME: HeaderValue = HeaderValue::from_static("nodegate");

/// The answer for `reason`, in the form that `accept` prefers.
pub(crate) fn answer(reason: Reason, accept: Form, server_header: bool) -> Response<ResponseBody> {
    let mut response = if accept == Form::Grpc { grpc(reason) } else { http(reason, accept) };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REASON_HEADER, HeaderValue::from_static(reason.code()));
    if server_header {
        headers.insert(SERVER, SERVER_NAME);
    }
    match reason {
        Reason::Method => {
            headers.insert(ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
        }
        Reason::Overload | Reason::NotReady => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        // What follows on this connection can't be trusted to be the next request.
        Reason::BadRequest | Reason::HeaderLimit | Reason::ClientTimeout => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

fn http(reason: Reason, accept: Form) -> Response<ResponseBody> {
    let (content_type, body) = render(reason, accept);
    let length = body.len();
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = reason.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// As gRPC clients understand it: a status in what would be trailers (`Trailers-Only` of gRPC over HTTP/2).
fn grpc(reason: Reason) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(message::GRPC));
    headers.insert("grpc-status", HeaderValue::from(grpc_status(reason.status())));
    headers.insert("grpc-message", HeaderValue::from_static(reason.text()));
    response
}

/// What gRPC makes of a status (its HTTP to gRPC Status Code Mapping): `INTERNAL`, `UNAUTHENTICATED`, `PERMISSION_DENIED`, `UNIMPLEMENTED`,
/// `UNAVAILABLE`, `UNKNOWN`.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The same answer as bytes, for a head that never became a request.
pub(crate) fn raw(reason: Reason, server_header: bool, date: &str) -> Bytes {
    let (content_type, body) = render(reason, Form::Text);
    let status = reason.status();
    let server = if server_header { "server: nodegate\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\ndate: {date}\r\n{server}content-type: {content_type}\r\ncontent-length: {}\r\ncache-control: no-store\r\n{REASON_HEADER}: {}\r\nconnection: close\r\n\r\n",
        body.len(),
        reason.code(),
    );
    [head.as_bytes(), &body].concat().into()
}

/// The form of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
    Html,
    /// A status that gRPC clients understand.
    Grpc,
}

impl Form {
    /// The form for whoever has sent this head.
    pub(crate) fn for_request(version: Version, headers: &HeaderMap) -> Self {
        if message::is_grpc(version, headers) { Self::Grpc } else { Self::of(headers) }
    }

    /// What `Accept` asks for first among the three; text where it asks for nothing of them. A browser names `text/html` before all else.
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in accept.flat_map(|value| value.split(',')) {
            match range.split(';').next().unwrap_or_default().trim() {
                "application/json" | "application/problem+json" => return Self::Json,
                "text/html" | "application/xhtml+xml" => return Self::Html,
                "text/plain" | "text/*" | "*/*" => return Self::Text,
                _ => {}
            }
        }
        Self::Text
    }
}

fn render(reason: Reason, form: Form) -> (&'static str, Bytes) {
    let (status, code, text) = (reason.status(), reason.code(), reason.text());
    match form {
        Form::Text | Form::Grpc => ("text/plain; charset=utf-8", format!("{status}: {text}\n").into()),
        Form::Json => {
            ("application/json", format!("{{\"status\":{},\"reason\":\"{code}\",\"message\":\"{text}\"}}\n", status.as_u16()).into())
        }
        Form::Html => (
            "text/html; charset=utf-8",
            format!(
                "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{status}</title>\n<h1>{status}</h1>\n<p>{}</p>\n",
                text.replace('\'', "&#39;")
            )
            .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_takes_the_form_that_accept_names_first() {
        for (accept, expected) in [
            ("", Form::Text),
            ("*/*", Form::Text),
            ("application/json", Form::Json),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Html),
            ("image/png, application/json;q=0.5", Form::Json),
            ("text/plain, application/json", Form::Text),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Form::of(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn a_raw_answer_is_a_whole_response() {
        let bytes = raw(Reason::HeaderLimit, true, "Mon, 23 Nov 2026 19:30:36 GMT");
        let text = std::str::from_utf8(&bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains("x-nodegate-reason: header_limit\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    }
}
