//! Follows a chunked body to its end (RFC 9112 section 7.1).

use super::{is_forbidden_in_value, is_token};

/// Follows a chunked body (RFC 9112 section 7.1) and says where it ends.
#[derive(Debug)]
pub struct ChunkScanner {
    state: ChunkState,
    /// Bytes of chunk extensions and trailers so far, against `max_overhead`.
    overhead: usize,
    max_overhead: usize,
}

#[derive(Debug, Clone, Copy)]
enum ChunkState {
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// A chunked body that is not one: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkError(pub &'static str);

/// Sixteen digits would fill 64 bits; with one fewer no parser's arithmetic is put to the test.
const MAX_SIZE_DIGITS: u8 = 15;

impl ChunkScanner {
    /// At the start of a body. `max_overhead` bounds the bytes of extensions and trailers together, which carry no data but cost as much.
    pub fn new(max_overhead: usize) -> Self {
        Self { state: ChunkState::Size { value: 0, digits: 0 }, overhead: 0, max_overhead }
    }

    /// Takes the next bytes. `Some(n)`: the message ends after the first `n` of them. `None`: all belong to it.
    ///
    /// # Errors
    /// The first byte that RFC 9112 doesn't allow where it stands.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let ChunkState::Data { left } = self.state {
                let available = bytes.len() - at;
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(available);
                at += here;
                let left = left - here as u64;
                self.state = if left == 0 { ChunkState::DataCr } else { ChunkState::Data { left } };
                continue;
            }
            self.state = self.step(byte)?;
            at += 1;
            if matches!(self.state, ChunkState::Done) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// One byte of everything that isn't chunk data.
    fn step(&mut self, byte: u8) -> Result<ChunkState, ChunkError> {
        use ChunkState as S;
        match (self.state, byte) {
            (S::Size { digits: MAX_SIZE_DIGITS, .. }, _) if byte.is_ascii_hexdigit() => Err(ChunkError("a chunk size that overflows")),
            (S::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Ok(S::Size { value: value << 4 | digit, digits: digits + 1 })
            }
            (S::Size { digits: 0, .. }, _) => Err(ChunkError("a chunk without a size")),
            (S::Size { value, .. } | S::Extension { value }, b'\r') => Ok(S::SizeLf { value }),
            (S::Size { value, .. }, b';') => Ok(S::Extension { value }),
            (S::Size { .. }, _) => Err(ChunkError("a malformed chunk size")),
            (S::Extension { value }, _) => self.extra(byte, S::Extension { value }),
            (S::SizeLf { value: 0 } | S::TrailerLf, b'\n') => Ok(S::TrailerStart),
            (S::SizeLf { value }, b'\n') => Ok(S::Data { left: value }),
            (S::DataCr, b'\r') => Ok(S::DataLf),
            (S::DataLf, b'\n') => Ok(S::Size { value: 0, digits: 0 }),
            (S::DataCr | S::DataLf, _) => Err(ChunkError("chunk data longer than its size")),
            (S::TrailerStart, b'\r') => Ok(S::EndLf),
            (S::EndLf, b'\n') => Ok(S::Done),
            (S::TrailerName, b':') => Ok(S::TrailerValue),
            (S::TrailerStart | S::TrailerName, _) if is_token(byte) => self.extra(byte, S::TrailerName),
            (S::TrailerStart | S::TrailerName, _) => Err(ChunkError("a malformed trailer")),
            (S::TrailerValue, b'\r') => Ok(S::TrailerLf),
            (S::TrailerValue, _) => self.extra(byte, S::TrailerValue),
            (S::SizeLf { .. } | S::TrailerLf | S::EndLf, _) => Err(ChunkError("a line that doesn't end in CRLF")),
            (S::Data { .. } | S::Done, _) => Err(ChunkError("bytes after the end")),
        }
    }

    /// A byte of an extension or a trailer: no control character, and not too many of them.
    fn extra(&mut self, byte: u8, next: ChunkState) -> Result<ChunkState, ChunkError> {
        self.overhead += 1;
        if self.overhead > self.max_overhead {
            return Err(ChunkError("chunk extensions or trailers too long"));
        }
        if is_forbidden_in_value(byte) {
            return Err(ChunkError("a control byte in a chunk extension or trailer"));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_ends_where_it_ends_however_it_is_cut() {
        let body = b"5;name=\"v\"\r\nhello\r\n00a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET";
        let end = body.len() - 3;
        for step in 1..=body.len() {
            let mut scanner = ChunkScanner::new(100);
            let mut seen = 0;
            let found = body.chunks(step).find_map(|part| {
                let found = scanner.feed(part).unwrap();
                seen += part.len();
                found.map(|inside| seen - part.len() + inside)
            });
            assert_eq!(found, Some(end), "in steps of {step}");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for (label, body) in [
            ("no size", "\r\nhello"),
            ("not hexadecimal", "g\r\n"),
            ("a prefix", "0x5\r\nhello\r\n"),
            ("a sign", "+5\r\nhello\r\n"),
            ("a space after the size", "5 \r\nhello\r\n"),
            ("overflow", "10000000000000000\r\n"),
            ("sixteen digits", "fffffffffffffff0\r\n"),
            ("a bare line feed", "5\nhello\r\n"),
            ("a bare line feed in an extension", "5;a\nb\r\nhello\r\n"),
            ("longer than its size", "4\r\nhello\r\n"),
            ("no CRLF after the data", "5\r\nhello0\r\n"),
            ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
            ("a trailer without a colon", "0\r\nnonsense\r\n\r\n"),
            ("NUL in a trailer", "0\r\nA: \0\r\n\r\n"),
            ("an endless extension", "5;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ] {
            assert!(ChunkScanner::new(20).feed(body.as_bytes()).is_err(), "{label}");
        }
    }
}
