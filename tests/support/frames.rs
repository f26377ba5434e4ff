//! A client that speaks HTTP/2 frame by frame, also wrongly.

use std::{net::SocketAddr, time::Duration};

use super::Wire;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

/// Flags.
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

/// Error codes (RFC 9113 section 7).
pub const NO_ERROR: u32 = 0x0;
pub const PROTOCOL_ERROR: u32 = 0x1;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection of which nothing is hidden.
pub struct Frames {
    pub wire: Wire,
}

/// What the server has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frames {
    /// Behind the preface and settings of the client's own.
    pub fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::over(Wire::connect(address), settings)
    }

    pub fn over(wire: Wire, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self { wire };
        frames.wire.send(PREFACE);
        let payload: Vec<u8> = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        frames.send(SETTINGS, 0, 0, &payload);
        frames
    }

    #[track_caller]
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(frame(kind, flags, stream, payload));
    }

    /// False: the server reads no more.
    pub fn try_send(&mut self, frames: &[u8]) -> bool {
        self.wire.try_send(frames).is_ok()
    }

    /// A whole request without a body.
    #[track_caller]
    pub fn get(&mut self, stream: u32) {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &fields(&GET_FIELDS));
    }

    /// The next frame. `None`: the connection has ended.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        let header = self.wire.up_to(9);
        let [high, middle, low, kind, flags, stream @ ..] = <[u8; 9]>::try_from(header).ok()?;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let payload = self.wire.up_to(length);
        (payload.len() == length).then(|| Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }

    /// The next frame of this kind on this stream, whatever comes before it.
    #[track_caller]
    pub fn until(&mut self, kind: u8, stream: u32) -> Frame {
        let mut before = Vec::new();
        while let Some(frame) = self.next() {
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
            before.push(frame);
        }
        panic!("the connection has ended without a frame of kind {kind} on stream {stream}; last of all came {:?}", before.last());
    }

    /// Waits for the end of a response, and takes all of it.
    #[track_caller]
    pub fn end_of(&mut self, stream: u32) {
        while self.until(DATA, stream).flags & END_STREAM == 0 {}
    }

    /// How the connection ends: the last stream that was seen, and why.
    #[track_caller]
    pub fn goaway(&mut self) -> (u32, u32) {
        let payload = self.until(GOAWAY, 0).payload;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        (number(0), number(4))
    }

    /// Why a stream is reset.
    #[track_caller]
    pub fn reset(&mut self, stream: u32) -> u32 {
        u32::from_be_bytes(self.until(RST_STREAM, stream).payload.try_into().unwrap())
    }

    /// Whether a `PING` is answered: the server is alive, and has done what came before.
    #[track_caller]
    pub fn is_alive(&mut self) -> bool {
        self.send(PING, 0, 0, b"alive? !");
        while let Some(frame) = self.next() {
            match (frame.kind, frame.flags & ACK, frame.payload.as_slice()) {
                (PING, ACK, b"alive? !") => return true,
                (GOAWAY, ..) => return false,
                _ => {}
            }
        }
        false
    }

    /// Whether nothing is said for so long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        !self.wire.stirs(time)
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub const GET_FIELDS: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub const POST_FIELDS: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

/// A header block: each field as a literal that nobody remembers (RFC 7541 section 6.2.2).
pub fn fields<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0, name.as_ref(), value.as_ref())).collect()
}

/// A field that is to be remembered (RFC 7541 section 6.2.1).
pub fn remembered(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    literal(0x40, name.as_ref(), value.as_ref())
}

/// A head that is 16 MB when it is unpacked: a field that is remembered, and then named 4,000 times by a byte each.
pub fn hpack_bomb() -> Vec<u8> {
    [fields(&GET_FIELDS), remembered("x", "y".repeat(4000)), vec![0xbe; 4000]].concat()
}

fn literal(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![kind];
    for text in [name, value] {
        integer(&mut field, 7, text.len());
        field.extend_from_slice(text);
    }
    field
}

/// RFC 7541 section 5.1, with nothing in the bits before the prefix.
fn integer(block: &mut Vec<u8>, prefix: u32, mut value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        return block.push(u8::try_from(value).unwrap());
    }
    block.push(u8::try_from(most).unwrap());
    value -= most;
    while value >= 128 {
        block.push(u8::try_from(value % 128 + 128).unwrap());
        value /= 128;
    }
    block.push(u8::try_from(value).unwrap());
}
