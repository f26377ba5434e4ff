//! The limits of HTTP/2: what one connection may have under way, and how much it may ask for that brings nothing.

use std::time::Duration;

/// Requests that one connection may have under way (`SETTINGS_MAX_CONCURRENT_STREAMS`). Beyond: the stream is refused, which tells the client to send it
/// again. nginx's number.
pub const HTTP2_STREAMS: u32 = 128;

/// What a client may send on one stream before a backend has taken any of it (`SETTINGS_INITIAL_WINDOW_SIZE`): over a line with 50 ms it gets 40 Mbit/s.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same on all streams of a connection together: 160 Mbit/s over such a line. Envoy's number for the edge.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What a worker's connections may have beyond that: as much as their uploads hold that backends don't take, each for as long as it lives. Beyond: such
/// uploads keep others of their connection waiting. Two connections full of them, or what a worker may take of a small node's memory.
pub const HTTP2_LENT_WINDOWS_BYTES: u32 = 64 * 1024 * 1024;

/// What a stream may have waiting for its connection's turn to write. Beyond: its backend isn't read from. A few frames.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Requests on one connection to a backend at a time, where that allows as many. Beyond: another connection. What most servers allow.
pub const UPSTREAM_STREAMS: usize = 100;

/// What a backend may send on one stream before its client has taken any of it: as much as over HTTP/1.1, twice.
pub const UPSTREAM_STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// The same on all streams of a connection together: more than all of them may have, so that clients that take nothing don't keep others waiting. The library
/// bounds what small pieces take by half of it, 256 bytes for each: half a million of them.
pub const UPSTREAM_CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;

/// How long what we send to a backend that speaks HTTP/2 may stay unacknowledged. Beyond: its host counts as gone, and all requests on the connection have
/// failed. Longer than over HTTP/1.1, since one that is only slow takes them all with it.
pub const HTTP2_ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// Streams that a client may have opened and reset before we have looked at them. Beyond: the connection ends with `ENHANCE_YOUR_CALM`. The server's own number.
pub const HTTP2_PENDING_RESETS: usize = 20;

/// Streams that we reset because of what their client sent on them. Beyond: the connection ends with `ENHANCE_YOUR_CALM`. Each may have cost a backend a
/// request (CVE-2025-8671, MadeYouReset). Streams over the limit count, too, which a client may open by mistake: four times as many as it may have.
pub const HTTP2_STREAM_ERRORS: usize = 512;

/// Streams that we have reset and still know, so that what their client sends on them before it hears of it is no error. Beyond: the oldest is forgotten.
pub const HTTP2_REMEMBERED_RESETS: usize = 8 * HTTP2_STREAMS as usize;

/// How long such a stream is known. Longer than any line takes to deliver what was sent.
pub const HTTP2_REMEMBERED: Duration = Duration::from_secs(30);

/// What small pieces of requests' bodies may take on a connection, beside what is in them: as the library counts it, 256 bytes each. Beyond: the connection
/// ends with `ENHANCE_YOUR_CALM`. 16,000 messages that a backend hasn't taken yet.
pub const HTTP2_SMALL_FRAMES_BYTES: usize = 4 * 1024 * 1024;

/// After its first farewell, how long a connection goes on taking new requests, if the client doesn't confirm that it has heard it. Beyond: they are refused,
/// to be sent again elsewhere. Several round trips.
pub const HTTP2_FAREWELL: Duration = Duration::from_secs(5);

/// Requests that a client may give up before they are answered, saved up; each complete response allows another one. Beyond: the connection ends with
/// `ENHANCE_YOUR_CALM`. Each may have cost a backend a request (CVE-2023-44487, Rapid Reset). Two pages' full of streams.
pub const HTTP2_RESETS: u32 = 2 * HTTP2_STREAMS;

/// Requests that a client may give up in a second over and above that: a slow service whose every request is given up.
pub const HTTP2_RESETS_PER_SECOND: u32 = 4;

/// Frames that may come, saved up, which bring no part of a request (the library allows a hundred empty pieces of bodies in all): `PING`, `SETTINGS`, `PRIORITY`, `WINDOW_UPDATE`, `RST_STREAM`, those that we don't
/// know, and empty ones. Beyond: the connection ends with `ENHANCE_YOUR_CALM`. The server would answer each of them for ever.
pub const HTTP2_IDLE_FRAMES: u32 = 1024;

/// Such frames that may come in a second over and above that. Keepalive takes one in ten seconds.
pub const HTTP2_IDLE_FRAMES_PER_SECOND: u32 = 32;

/// Such frames that each piece of a request, and of a response, allows: for a piece of a response clients update two windows, and some measure their line
/// with a `PING`.
pub const HTTP2_FRAMES_EARNED: u32 = 4;
