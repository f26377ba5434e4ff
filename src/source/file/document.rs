//! Splits a YAML stream into its documents, so that one that is broken can't take its neighbours along, and lines stay those of the file.

use std::{hash::BuildHasher, iter};

use foldhash::quality::FixedState;
use memchr::memchr_iter;

/// One YAML document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Its place in the stream, counted from 1.
    pub number: usize,
    /// The line of the file on which `text` begins, counted from 1.
    pub line: usize,
    /// Everything between its markers.
    pub text: &'a str,
    /// Of `text`, in YAML.
    pub fingerprint: u64,
}

/// The documents of a stream. A marker at the beginning of a line always ends a document, even within a scalar (YAML 1.2.2, section 9.1.2,
/// `c-forbidden`), which is what makes splitting by lines correct. What precedes the first marker, and holds nothing, is no document.
pub(super) fn split(stream: &str) -> Vec<Document<'_>> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut documents = Vec::new();
    let mut begun = Begun { by_marker: false, line: 1, offset: 0 };
    let lines = iter::once(0).chain(memchr_iter(b'\n', stream.as_bytes()).map(|end| end + 1));
    for (index, offset) in lines.enumerate() {
        let rest = stream.get(offset..).unwrap_or_default();
        if is_marker(rest, "---") {
            begun.end(stream, offset, &mut documents);
            begun = Begun { by_marker: true, line: index + 1, offset: offset + "---".len() };
        } else if is_marker(rest, "...") {
            begun.end(stream, offset, &mut documents);
            let next = rest.find('\n').map_or(stream.len(), |end| offset + end + 1);
            begun = Begun { by_marker: false, line: index + 2, offset: next };
        }
    }
    begun.end(stream, stream.len(), &mut documents);
    documents
}

/// Equal for equal texts, and for no others in practice. Who could seek two texts with the same one can write to the manifests anyway.
pub(super) fn fingerprint(text: &str) -> u64 {
    FixedState::default().hash_one(text)
}

struct Begun {
    by_marker: bool,
    line: usize,
    offset: usize,
}

impl Begun {
    fn end<'a>(&self, stream: &'a str, end: usize, documents: &mut Vec<Document<'a>>) {
        let text = stream.get(self.offset..end).unwrap_or_default();
        if self.by_marker || !is_prologue(text) {
            documents.push(Document { number: documents.len() + 1, line: self.line, text, fingerprint: fingerprint(text) });
        }
    }
}

/// Whether what begins with a line begins with this marker.
fn is_marker(stream: &str, marker: &str) -> bool {
    stream.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Only blank lines, comments and directives.
fn is_prologue(text: &str) -> bool {
    text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#') || line.starts_with('%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_numbers_and_lines() {
        type Expected = &'static [(usize, usize, &'static str)];
        let cases: [(&str, &str, Expected); 9] = [
            ("nothing", "", &[]),
            ("one without a marker", "a: 1\n", &[(1, 1, "a: 1\n")]),
            ("a licence before the first marker", "# licence\n\n---\na: 1\n", &[(1, 3, "\na: 1\n")]),
            ("two", "a: 1\n---\nb: 2\n", &[(1, 1, "a: 1\n"), (2, 2, "\nb: 2\n")]),
            ("an empty one in between counts", "---\n---\nb: 2", &[(1, 1, "\n"), (2, 2, "\nb: 2")]),
            ("a comment on the marker, CRLF", "--- # one\r\na: 1\r\n---\r\nb: 2", &[(1, 1, " # one\r\na: 1\r\n"), (2, 3, "\r\nb: 2")]),
            (
                "an end marker and a directive",
                "%YAML 1.2\n---\na: 1\n...\n%YAML 1.2\n---\nb: 2\n",
                &[(1, 2, "\na: 1\n"), (2, 6, "\nb: 2\n")],
            ),
            ("four dashes and indented dashes are content", "a: |\n  ---\n----\n", &[(1, 1, "a: |\n  ---\n----\n")]),
            ("a byte order mark", "\u{feff}a: 1\n", &[(1, 1, "a: 1\n")]),
        ];
        for (label, stream, expected) in cases {
            let found: Vec<_> = split(stream).iter().map(|document| (document.number, document.line, document.text)).collect();
            assert_eq!(found, expected, "{label}");
        }
    }
}
