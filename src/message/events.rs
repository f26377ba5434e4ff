//! What is a stream of server-sent events, by its content type (HTML, section "Server-sent events").

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a response is one that can be read on its way: not in a coding of its own.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let is_plain = || !headers.contains_key(CONTENT_ENCODING);
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let (kind, rest) = kind.as_bytes().split_at_checked(EVENT_STREAM.len()).unwrap_or_default();
        kind.eq_ignore_ascii_case(EVENT_STREAM) && matches!(rest.trim_ascii_start().first(), None | Some(b';')) && is_plain()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn they_are_told_by_their_media_type_whatever_follows_it() {
        for (text, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream;charset=UTF-8", true),
            ("text/event-stream ; charset=utf-8", true),
            ("text/event-streams", false),
            ("text/event", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]);
            assert_eq!(is_event_stream(&headers), expected, "{text:?}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
        let both = [(CONTENT_TYPE, "text/event-stream"), (CONTENT_ENCODING, "gzip")];
        assert!(!is_event_stream(&HeaderMap::from_iter(both.map(|(name, value)| (name, HeaderValue::from_static(value))))));
    }
}
