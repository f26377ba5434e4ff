//! The frames that a client sends, followed by their headers alone (RFC 9113 section 4.1). What is in them is the HTTP/2 server's matter.

/// Bytes of a frame's header.
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What a frame is to whoever counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// The beginning of a request's head, or of its trailers.
    Head,
    /// A piece of a request's body, of so many bytes, or its end.
    Body(usize),
    /// The client has no more use for a stream.
    Reset,
    /// `SETTINGS`, with which everything begins.
    Settings,
    /// Whatever else there is: it may make us do something, and brings nothing.
    Other,
}

/// Follows what the client sends from one frame's header to the next.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    header: [u8; HEADER_BYTES],
    /// How much of a header is there.
    have: usize,
    /// How much of the frame's payload is still to come.
    left: usize,
    /// A head has begun, and its last frame hasn't come.
    in_head: bool,
    in_data: bool,
}

impl Scanner {
    /// Follows `bytes`, which come next, and tells of each frame whose header ends in them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let missing = self.header.get_mut(self.have..).unwrap_or_default();
            let count = missing.len().min(bytes.len());
            let (more, rest) = bytes.split_at(count);
            missing.iter_mut().zip(more).for_each(|(to, from)| *to = *from);
            self.have += count;
            bytes = rest;
            if self.have == HEADER_BYTES {
                found(self.begin());
            }
        }
    }

    /// A frame has begun, or a head of several, that isn't there yet; a piece of a body doesn't count, since it has a clock of its own.
    pub(super) fn is_mid_head(&self) -> bool {
        self.in_head || self.have > 0 || (self.left > 0 && !self.in_data)
    }

    fn begin(&mut self) -> Frame {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.have = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.in_data = kind == DATA;
        match kind {
            HEADERS | CONTINUATION => self.in_head = flags & END_HEADERS == 0,
            _ => {}
        }
        match kind {
            HEADERS => Frame::Head,
            DATA if self.left > 0 || flags & END_STREAM != 0 => Frame::Body(self.left),
            RST_STREAM => Frame::Reset,
            SETTINGS => Frame::Settings,
            _ => Frame::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER_BYTES + usize::from(length), 0xff);
        bytes
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let sent = [
            (frame(SETTINGS, 0, 12), Frame::Settings),
            (frame(HEADERS, 0, 40), Frame::Head),
            (frame(CONTINUATION, END_HEADERS, 0), Frame::Other),
            (frame(DATA, 0, 200), Frame::Body(200)),
            (frame(DATA, 0, 0), Frame::Other),
            (frame(DATA, END_STREAM, 0), Frame::Body(0)),
            (frame(RST_STREAM, 0, 4), Frame::Reset),
            (frame(0x6, 0, 8), Frame::Other),
            (frame(0x77, 0xff, 1), Frame::Other),
        ];
        let (bytes, expected): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let bytes = bytes.concat();
        for size in 1..bytes.len() {
            let (mut scanner, mut found) = (Scanner::default(), Vec::new());
            for piece in bytes.chunks(size) {
                scanner.feed(piece, |frame| found.push(frame));
            }
            assert_eq!(found, expected, "in pieces of {size}");
            assert!(!scanner.is_mid_head());
        }
    }

    #[test]
    fn a_head_lasts_until_its_last_frame() {
        for (label, bytes, expected) in [
            ("nothing", vec![], false),
            ("part of a header", frame(HEADERS, END_HEADERS, 0)[..3].to_vec(), true),
            ("part of a head", frame(HEADERS, END_HEADERS, 9)[..12].to_vec(), true),
            ("a head", frame(HEADERS, END_HEADERS, 9), false),
            ("a head of several frames", frame(HEADERS, 0, 9), true),
            ("in its second one", [frame(HEADERS, 0, 9), frame(CONTINUATION, 0, 9)].concat(), true),
            ("its end", [frame(HEADERS, 0, 9), frame(CONTINUATION, END_HEADERS, 9)].concat(), false),
            ("part of a body", frame(DATA, 0, 9)[..12].to_vec(), false),
            ("part of another frame", frame(0x6, 0, 8)[..12].to_vec(), true),
        ] {
            let mut scanner = Scanner::default();
            scanner.feed(&bytes, |_| {});
            assert_eq!(scanner.is_mid_head(), expected, "{label}");
        }
    }
}
