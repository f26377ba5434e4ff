//! The access log: one JSON line a request, formatted by its worker, where all of it is at hand, and written by a thread of its own. A full pipe drops lines
//! and counts them; it never blocks a worker.

mod json;
mod writer;

use std::{
    fs::OpenOptions,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::PathBuf,
    sync::mpsc::{SyncSender, sync_channel},
    time::{Duration, SystemTime},
};

pub use writer::{Lost, Writer};

use self::json::Formatter;
use crate::{config::limits, route::Route};

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to a file, which is made if it isn't there.
    File(PathBuf),
}

/// One request, as it ended.
#[derive(Debug)]
pub struct Record<'a> {
    /// When its head was complete.
    pub time: SystemTime,
    /// Who sent it, as found out from trusted headers.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Its method.
    pub method: &'a str,
    /// Its canonical host; empty where it had none.
    pub host: &'a str,
    /// Path and query, as they arrived.
    pub path: &'a str,
    /// The version it was sent in.
    pub version: http::Version,
    /// The route it took, if any.
    pub route: Option<&'a Route>,
    /// The address that answered, or the last one tried.
    pub upstream: Option<SocketAddr>,
    /// The status of the answer.
    pub status: u16,
    /// Why we answered ourselves, or why the answer ended early; `None` where a backend's answer was passed on whole.
    pub reason: Option<&'static str>,
    /// From its head to the moment we looked for a connection to the backend.
    pub queue: Duration,
    /// Until there was a connection; `None` where a pooled one was used, or none at all.
    pub connect: Option<Duration>,
    /// From the moment it was sent to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// From its head to the last byte of the answer.
    pub total: Duration,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Attempts to get an answer from a backend.
    pub attempts: u32,
    /// `X-Request-Id`.
    pub request_id: &'a str,
    /// `User-Agent`; bytes that aren't UTF-8 replaced.
    pub user_agent: Option<&'a str>,
}

/// What travels from a worker to the writer.
enum Message {
    Batch(Batch),
    /// Write what came before, then stop.
    Finish,
}

/// Whole lines.
#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    lines: u64,
}

/// Room for one more line of the usual kind: a batch with less is full. A longer line makes the batch grow.
const LAST_LINE_BYTES: usize = 1024;

/// A worker's end. Dropping it loses what wasn't flushed.
#[derive(Debug)]
pub struct Local {
    writer: Option<SyncSender<Message>>,
    formatter: Formatter,
    batch: Batch,
    dropped: u64,
}

/// Opens the output and starts its writer, with one [`Local`] for each worker. Errors: the file can't be opened, the thread can't be started.
pub fn start(out: Output, workers: usize) -> io::Result<(Vec<Local>, Writer)> {
    let file = match out {
        Output::Off => return Ok(((0..workers).map(|_| Local::new(None)).collect(), Writer::none())),
        // The descriptor itself, since `Stdout` would search each write for line ends and lock.
        Output::Stdout => io::stdout().as_fd().try_clone_to_owned()?.into(),
        Output::File(path) => OpenOptions::new().append(true).create(true).open(path)?,
    };
    let (sender, receiver) = sync_channel(limits::LOG_QUEUE * workers.max(1));
    let locals = (0..workers).map(|_| Local::new(Some(sender.clone()))).collect();
    Ok((locals, Writer::start(file, sender, receiver)?))
}

impl Local {
    fn new(writer: Option<SyncSender<Message>>) -> Self {
        Self { writer, formatter: Formatter::default(), batch: Batch::default(), dropped: 0 }
    }

    /// Whether a record goes anywhere: where it doesn't, there is no need to make one.
    pub fn enabled(&self) -> bool {
        self.writer.is_some()
    }

    /// Takes a record; hands over [`limits::LOG_BATCH_BYTES`] of lines at once, so that the writer is woken once for all of these. Never blocks.
    pub fn push(&mut self, record: &Record<'_>) {
        if self.writer.is_none() {
            return;
        }
        let Batch { text, lines } = &mut self.batch;
        if text.capacity() == 0 {
            text.reserve_exact(limits::LOG_BATCH_BYTES);
        }
        self.formatter.line(record, text);
        *lines += 1;
        if text.len() + LAST_LINE_BYTES > limits::LOG_BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over what has gathered: every [`limits::DEADLINE_TICK`], and before the worker ends. Never blocks: where the writer is
    /// behind, the lines are dropped and counted.
    pub fn flush(&mut self) {
        let Some(writer) = &self.writer else { return };
        if self.batch.lines == 0 {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let lines = batch.lines;
        if writer.try_send(Message::Batch(batch)).is_err() {
            self.dropped = self.dropped.saturating_add(lines);
        }
    }

    /// Records dropped because the writer was behind. What the writer itself couldn't write is in [`Lost`].
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests;
