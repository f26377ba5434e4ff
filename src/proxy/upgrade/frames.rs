//! The frames of a WebSocket on their way to the client, followed by their headers alone (RFC 6455 section 5.2): between two of them something may be said.

/// Bytes of a header at the most: two, the length, and a key, which servers don't use.
const HEADER_BYTES: usize = 14;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;

/// Follows what the backend sends from one frame's header to the next.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES],
    /// How much of a header is there.
    have: usize,
    /// How much of the frame's payload is still to come.
    left: u64,
    closing: bool,
}

impl Frames {
    /// Follows `bytes`, which come next.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else { return };
            if let Some(next) = self.header.get_mut(self.have) {
                *next = *first;
            }
            self.have += 1;
            bytes = rest;
            if self.have == self.header_length() {
                self.begin();
            }
        }
    }

    /// A frame has ended, and no other one has begun.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// The last frame has begun, behind which nothing is sent.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// So many bytes at the most belong to the frame under way.
    pub(super) fn rest(&self) -> usize {
        if self.left > 0 { usize::try_from(self.left).unwrap_or(usize::MAX) } else { self.header_length() - self.have }
    }

    /// As far as it is known by what is there.
    fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        if self.have < 2 {
            return 2;
        }
        let length = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & MASKED == 0 { 0 } else { 4 }
    }

    fn begin(&mut self) {
        let [first, second, extended @ ..] = self.header;
        let number = |bytes: usize| extended.iter().take(bytes).fold(0, |number, byte| number << 8 | u64::from(*byte));
        self.left = match second & !MASKED {
            126 => number(2),
            127 => number(8),
            short => u64::from(short),
        };
        self.closing |= first & OPCODE == CLOSE;
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..=125 => bytes.push(mask | u8::try_from(length).unwrap()),
            126..=0xffff => bytes.extend([&[mask | 0x7e][..], &u16::try_from(length).unwrap().to_be_bytes()].concat()),
            _ => bytes.extend([&[mask | 0x7f][..], &(length as u64).to_be_bytes()].concat()),
        }
        // Payload that looks like frames.
        bytes.resize(bytes.len() + length + if masked { 4 } else { 0 }, 0x88);
        bytes
    }

    #[test]
    fn the_end_of_a_frame_is_found_however_it_is_cut() {
        for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 70_000] {
            for masked in [false, true] {
                let bytes = frame(0x2, masked, length);
                for size in [1, 2, 3, 7, 4096, bytes.len()] {
                    let mut frames = Frames::default();
                    let mut fed = 0;
                    for piece in bytes.chunks(size) {
                        assert!(fed == 0 || !frames.is_between(), "{fed} of {length}");
                        assert!(frames.rest() <= bytes.len() - fed, "{fed} of {length}");
                        frames.feed(piece);
                        fed += piece.len();
                    }
                    assert!(frames.is_between() && !frames.is_closing(), "{length} {masked} in pieces of {size}");
                    assert_eq!(frames.rest(), 2, "of the next header");
                }
            }
        }
    }

    #[test]
    fn whoever_reads_as_much_as_there_is_of_a_frame_stops_at_its_end() {
        let frames = [frame(0x1, false, 300), frame(0x9, false, 4), frame(0x8, false, 2)];
        let bytes = frames.concat();
        let (mut following, mut at, mut ends) = (Frames::default(), 0, Vec::new());
        while at < bytes.len() {
            let next = at + following.rest();
            following.feed(&bytes[at..next]);
            at = next;
            if following.is_between() {
                ends.push(at);
            }
        }
        let lengths = frames.map(|frame| frame.len());
        assert_eq!(ends, [lengths[0], lengths[0] + lengths[1], bytes.len()]);
        assert!(following.is_closing());
    }
}
