//! Where one HTTP/1 message ends and the next begins (RFC 9112), checked strictly before any parser sees the bytes: whatever two parsers could
//! understand differently is refused here, so that no request can be smuggled behind another. Pure: bytes in, verdict out.

mod chunked;

pub use chunked::{ChunkError, ChunkScanner};

use http::Uri;

/// How the body of a request is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Why a head is refused. The text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// Malformed or ambiguous: 400.
    Malformed(&'static str),
    /// More header fields than allowed: 431.
    TooManyFields,
}

/// The end of a head in `buf`: the index just after its empty line. `from` is where an earlier, unsuccessful look at the same bytes ended, so that a
/// head which trickles in byte by byte costs no more than one that comes at once.
pub fn end_of_head(buf: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    while let Some(rest) = buf.get(at..) {
        let newline = at + memchr::memchr(b'\n', rest)?;
        match buf.get(newline + 1..) {
            Some([b'\r', b'\n', ..]) => return Some(newline + 3),
            // A bare line feed ends a head for lenient parsers: so it does here, and `check_head` refuses it.
            Some([b'\n', ..]) => return Some(newline + 2),
            _ => at = newline + 1,
        }
    }
    None
}

/// Checks a whole head, its empty line included, and tells how the body that follows is delimited.
///
/// # Errors
/// Anything that RFC 9112 forbids, and what it lets a recipient tolerate but parsers disagree on: bare CR or LF, folded lines, white space before a colon,
/// `Content-Length` beside `Transfer-Encoding`, repeated or listed lengths, any coding other than exactly one `chunked`.
pub fn check_head(head: &[u8], max_fields: usize) -> Result<Framing, HeadError> {
    let mut lines = Lines { rest: head, count: 0 };
    let version = request_line(lines.next_line()?)?;
    let mut length = None;
    let mut chunked = false;
    let mut fields = 0;
    loop {
        let line = lines.next_line()?;
        if line.is_empty() {
            break;
        }
        fields += 1;
        if fields > max_fields {
            return Err(HeadError::TooManyFields);
        }
        let (name, value) = field_line(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let previous = length.replace(content_length(value)?);
            if previous.is_some() {
                return Err(HeadError::Malformed("more than one Content-Length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Malformed("a Transfer-Encoding other than one chunked"));
            }
            chunked = true;
        }
    }
    // The two that end each line are the only ones. One look at the whole head, since a look at each value, most of which are short, costs four times as much.
    if count_forbidden_in_value(head) != 2 * lines.count {
        return Err(HeadError::Malformed("a control byte"));
    }
    match (length, chunked) {
        (Some(_), true) => Err(HeadError::Malformed("Content-Length and Transfer-Encoding together")),
        (None, true) if version == Version::Http10 => Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0")),
        (None, true) => Ok(Framing::Chunked),
        (Some(0) | None, false) => Ok(Framing::None),
        (Some(length), false) => Ok(Framing::Length(length)),
    }
}

#[derive(PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Splits a head at CRLF. Whatever is not there ends in an error, never in a panic.
struct Lines<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Result<&'a [u8], HeadError> {
        let newline = memchr::memchr(b'\n', self.rest).ok_or(HeadError::Malformed("a head without an end"))?;
        let (line, rest) = self.rest.split_at(newline);
        self.rest = rest.get(1..).unwrap_or_default();
        self.count += 1;
        line.strip_suffix(b"\r").ok_or(HeadError::Malformed("a line that ends in a bare line feed"))
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3), single spaces.
fn request_line(line: &[u8]) -> Result<Version, HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("a malformed request line");
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(MALFORMED);
    };
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(MALFORMED);
    }
    request_target(target)?;
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(HeadError::Malformed("an HTTP version other than 1.0 and 1.1")),
    }
}

/// RFC 9112 section 3.2. Origin form of plain characters, the common case, is seen at a glance; anything else has to parse, and to parse the same way
/// everywhere: the `Uri` type quietly cuts a fragment off and reads `foo` as an authority.
fn request_target(target: &[u8]) -> Result<(), HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("a malformed request target");
    let plain = target.iter().all(|&byte| PLAIN_TARGET.holds(byte));
    match target.first() {
        Some(b'/') if plain => return Ok(()),
        Some(b'*') if target.len() == 1 => return Ok(()),
        None => return Err(MALFORMED),
        Some(_) => {}
    }
    if memchr::memchr(b'#', target).is_some() {
        return Err(MALFORMED);
    }
    Uri::try_from(target).map_err(|_| MALFORMED)?;
    Ok(())
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5); the value comes back trimmed.
fn field_line(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let end = line.iter().position(|&byte| !is_token(byte)).ok_or(HeadError::Malformed("a header line without a colon"))?;
    match line.split_at(end) {
        // A folded line begins with white space, which is no token character.
        (name, [b':', value @ ..]) if !name.is_empty() => Ok((name, value.trim_ascii())),
        _ => Err(HeadError::Malformed("a malformed header name")),
    }
}

/// RFC 9110 section 8.6: digits, and no list, even of equal values.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("a malformed Content-Length");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(MALFORMED)?;
    // hyper keeps its highest values for itself; nobody sends 2^62 bytes.
    if length > u64::MAX / 4 { Err(MALFORMED) } else { Ok(length) }
}

/// Control characters but the tab, which RFC 9110 section 5.5 allows in a value.
#[expect(clippy::needless_bitwise_bool, reason = "branch-free, so that bytes are counted many at a time")]
fn is_forbidden_in_value(byte: u8) -> bool {
    ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f)
}

/// As many as there are [`is_forbidden_in_value`].
fn count_forbidden_in_value(bytes: &[u8]) -> usize {
    // Each chunk in bytes, of which a register holds sixteen, and two of the total.
    let of_chunk = |chunk: &[u8]| chunk.iter().map(|&byte| u8::from(is_forbidden_in_value(byte))).sum::<u8>();
    bytes.chunks(u8::MAX.into()).map(|chunk| usize::from(of_chunk(chunk))).sum()
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    TOKEN.holds(byte)
}

static TOKEN: AsciiSet = AsciiSet::of(b"!#$%&'*+-.^_`|~");

/// RFC 3986: unreserved, sub-delimiters, and what else a path and query may hold.
static PLAIN_TARGET: AsciiSet = AsciiSet::of(b"-._~:/?@!$&'()*+,;=%");

/// A set of ASCII characters: a table, which is asked for each byte of each head.
struct AsciiSet([bool; 256]);

impl AsciiSet {
    /// Letters, digits and `extra`.
    #[expect(clippy::indexing_slicing, reason = "in constants only, where the compiler would say so")]
    const fn of(mut extra: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            set[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        while let [first, rest @ ..] = extra {
            set[*first as usize] = true;
            extra = rest;
        }
        Self(set)
    }

    fn holds(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).is_some_and(|holds| *holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Framing, HeadError> {
        check_head(text.as_bytes(), 4)
    }

    #[test]
    fn accepted_heads_tell_how_the_body_is_delimited() {
        for (label, text, expected) in [
            ("no body", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("length", "POST / HTTP/1.1\r\ncontent-LENGTH:  12 \r\n\r\n", Framing::Length(12)),
            ("length of nothing", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Framing::None),
            ("chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
            ("HTTP/1.0 without a Host", "GET / HTTP/1.0\r\n\r\n", Framing::None),
            ("absolute form", "GET http://a/b?c HTTP/1.1\r\n\r\n", Framing::None),
            ("asterisk form", "OPTIONS * HTTP/1.1\r\n\r\n", Framing::None),
            ("authority form", "CONNECT a:443 HTTP/1.1\r\n\r\n", Framing::None),
            ("unusual but harmless target", "GET /a{b}\u{e9}?[x] HTTP/1.1\r\n\r\n", Framing::None),
            ("high bytes in a value", "GET / HTTP/1.1\r\nX: \u{e9}\t.\r\n\r\n", Framing::None),
        ] {
            assert_eq!(head(text), Ok(expected), "{label}");
        }
    }

    #[test]
    fn ambiguous_or_malformed_heads_are_refused() {
        for (label, text) in [
            ("both delimiters", "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("both, the other way round", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
            ("equal lengths repeated", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            ("a list of equal lengths", "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n"),
            ("a signed length", "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n"),
            ("a length that overflows", "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n"),
            ("a length close to the top", "POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n"),
            ("no length at all", "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n"),
            ("xchunked", "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n"),
            ("gzip, chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            ("chunked twice", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("a vertical tab before chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n"),
            ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("a space before the colon", "GET / HTTP/1.1\r\nContent-Length : 1\r\n\r\n"),
            ("a folded line", "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"),
            ("a bare line feed", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
            ("a bare line feed at the end", "GET / HTTP/1.1\r\nHost: a\n\n"),
            ("a bare CR", "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n"),
            ("NUL", "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n"),
            ("DEL in a value", "GET / HTTP/1.1\r\nX: a\x7fb\r\n\r\n"),
            ("DEL in the target", "GET /?a=\x7f HTTP/1.1\r\n\r\n"),
            ("a control byte in the target", "GET /a\x01 HTTP/1.1\r\n\r\n"),
            ("a form feed around chunked", "POST / HTTP/1.1\r\nTransfer-Encoding:\x0cchunked\r\n\r\n"),
            ("a carriage return too many", "GET / HTTP/1.1\r\nX: a\r\r\n\r\n"),
            ("no colon", "GET / HTTP/1.1\r\nnonsense\r\n\r\n"),
            ("no name", "GET / HTTP/1.1\r\n: a\r\n\r\n"),
            ("two spaces", "GET  / HTTP/1.1\r\n\r\n"),
            ("a space in the target", "GET /a b HTTP/1.1\r\n\r\n"),
            ("no slash", "GET foo/bar HTTP/1.1\r\n\r\n"),
            ("a fragment", "GET /a#b HTTP/1.1\r\n\r\n"),
            ("HTTP/2", "PRI * HTTP/2.0\r\n\r\n"),
            ("lower case version", "GET / http/1.1\r\n\r\n"),
            ("HTTP/0.9", "GET /\r\n\r\n"),
            ("a method that is no token", "G@T / HTTP/1.1\r\n\r\n"),
        ] {
            assert!(matches!(head(text), Err(HeadError::Malformed(_))), "{label}: {:?}", head(text));
        }
    }

    #[test]
    fn the_field_after_the_last_allowed_one_is_one_too_many() {
        let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(head(&fields(4)), Ok(Framing::None));
        assert_eq!(head(&fields(5)), Err(HeadError::TooManyFields));
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_trickles_in() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let end = text.len() - 4;
        assert_eq!(end_of_head(text, 0), Some(end));
        for cut in 0..end {
            assert_eq!(end_of_head(&text[..cut], 0), None, "{cut}");
            assert_eq!(end_of_head(text, cut), Some(end), "{cut}");
        }
    }
}
