//! What is kept on disk for a start without an API server.

use std::time::Duration;

/// How long a start waits for the API server to list everything, before it serves what is on disk. A large cluster is listed within a second or two; an API
/// server that starts beside it takes longer, and then nobody is worse off than before.
pub const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two writes of the state to disk, at least: so much of what has changed last may be missing after a crash. Disks of small nodes wear.
pub const STATE_INTERVAL: Duration = Duration::from_secs(5);

/// The same, as a multiple of what the last write took: a large state that changes all the time costs no more than a twentieth of one core.
pub const STATE_REST: u32 = 20;

/// The same, by the bytes that it had: a large state that changes all the time is no more than 20 GB a day.
pub const STATE_BYTES_PER_SECOND: usize = 256 * 1024;

/// Between two writes, at most, whatever the last one was.
pub const STATE_INTERVAL_MAX: Duration = Duration::from_mins(5);

/// After a write that has failed, until the next one: a disk that is full is rarely so for less.
pub const STATE_RETRY: Duration = Duration::from_secs(30);

/// Bytes of the state. Beyond: it isn't written, nor read. Fifty thousand Ingresses with their Services take a hundred million.
pub const STATE_BYTES: usize = 512 * 1024 * 1024;

/// Between two looks at whether an API server that has refused to answer doesn't answer at all by now.
pub const STATE_LOOK: Duration = Duration::from_secs(1);

/// How old a temporary file is that nobody writes any more: its process has died in the middle.
pub const STATE_TEMPORARY_AGE: Duration = Duration::from_mins(10);
