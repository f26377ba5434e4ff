//! Values that outlive the buffer that they were read into. HPACK's tables keep fields for as long as a connection lives (RFC 9113 section 4.3), and a value that is a
//! part of a read buffer keeps all of that: eight kilobytes or more, for a date.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

/// Copies all values into one piece of memory that is as large as they are.
pub fn detach(headers: &mut HeaderMap) {
    let size = headers.values().map(HeaderValue::len).sum();
    if size == 0 {
        return;
    }
    let mut all = BytesMut::with_capacity(size);
    for value in headers.values() {
        all.extend_from_slice(value.as_bytes());
    }
    let mut rest = all.freeze();
    for value in headers.values_mut() {
        put(value, rest.split_to(value.len()));
    }
}

fn put(value: &mut HeaderValue, bytes: Bytes) {
    // It is one already, so that it can't fail.
    if let Ok(mut detached) = HeaderValue::from_maybe_shared(bytes) {
        detached.set_sensitive(value.is_sensitive());
        *value = detached;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_were_and_lie_elsewhere() {
        let buffer = Bytes::from([b"one two".as_slice(), &[0xff; 8192]].concat());
        let mut headers = HeaderMap::new();
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
        headers.append("a", value(0..3));
        headers.append("b", HeaderValue::from_static(""));
        headers.append("a", value(4..7));
        let mut secret = value(7..9);
        secret.set_sensitive(true);
        headers.append("c", secret);
        let before = headers.clone();
        detach(&mut headers);
        assert_eq!(headers, before);
        assert!(headers["c"].is_sensitive() && !headers["a"].is_sensitive());
        drop(before);
        assert!(buffer.is_unique(), "nothing keeps the buffer");
    }

    #[test]
    fn no_values_are_no_memory() {
        let mut headers = HeaderMap::new();
        detach(&mut headers);
        assert!(headers.is_empty());
    }
}
