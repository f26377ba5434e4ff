//! The thread that formats and writes: it may block on a slow output, nobody else does.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Message, json::Formatter};

/// Bytes gathered for one write: what a pipe takes at once by default on Linux, so that more would only be split.
const WRITE_BYTES: usize = 64 * 1024;

/// Between two tries where the output, or the queue at exit, can't take more and can't be waited for.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    running: Option<Running>,
    lost: Lost,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    queue: SyncSender<Message>,
}

/// Lines that the output refused: a reader that went away, a full disk.
#[derive(Debug, Clone, Default)]
pub struct Lost(Arc<AtomicU64>);

impl Lost {
    /// Lines lost since the start.
    pub fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Writer {
    /// The writer of a log that is off.
    pub(super) fn none() -> Self {
        Self { running: None, lost: Lost::default() }
    }

    pub(super) fn start(file: File, queue: SyncSender<Message>, receiver: Receiver<Message>) -> io::Result<Self> {
        let lost = Lost::default();
        let sink = Sink { file, buffer: Vec::with_capacity(2 * WRITE_BYTES), lines: 0, torn: false, gone: false, lost: lost.clone() };
        let thread = thread::Builder::new().name("access-log".into()).spawn(move || run(sink, &receiver))?;
        Ok(Self { running: Some(Running { thread, queue }), lost })
    }

    /// A view of the lines that couldn't be written, for the metrics.
    pub fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// Writes what the workers have handed over, for at most `deadline`, and ends the thread. Returns whether everything was written; where
    /// it wasn't (a pipe that nobody reads), the thread ends with the process.
    pub fn finish(self, deadline: Duration) -> bool {
        let Some(Running { thread, queue }) = self.running else { return true };
        let end = Instant::now() + deadline;
        while let Err(TrySendError::Full(_)) = queue.try_send(Message::Finish) {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(RETRY_PAUSE);
        }
        while !thread.is_finished() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(RETRY_PAUSE);
        }
        thread.join().is_ok()
    }
}

fn run(mut sink: Sink, queue: &Receiver<Message>) {
    let mut formatter = Formatter::default();
    while let Ok(message) = queue.recv() {
        let mut more = sink.take(message, &mut formatter);
        // Whatever else is waiting goes out in the same write, up to a sensible size.
        while more && let Ok(message) = queue.try_recv() {
            more = sink.take(message, &mut formatter);
        }
        sink.write();
        if !more {
            break;
        }
    }
}

/// The output, and the lines on their way to it.
struct Sink {
    file: File,
    buffer: Vec<u8>,
    lines: u64,
    /// The last write ended inside a line.
    torn: bool,
    /// The reader is gone for good.
    gone: bool,
    lost: Lost,
}

impl Sink {
    /// Formats a batch. False: the end was asked for.
    fn take(&mut self, message: Message, formatter: &mut Formatter) -> bool {
        let Message::Batch(batch) = message else { return false };
        if self.gone {
            self.lost.add(batch.len() as u64);
            return true;
        }
        for record in &batch {
            formatter.line(record, &mut self.buffer);
            self.lines += 1;
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.write();
        }
        true
    }

    fn write(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if self.torn && self.put(b"\n").is_ok() {
            self.torn = false;
        }
        let buffer = std::mem::take(&mut self.buffer);
        if let Err(error) = self.put(&buffer) {
            self.gone = error.kind() == io::ErrorKind::BrokenPipe;
            self.lost.add(self.lines);
        }
        self.lines = 0;
        self.buffer = buffer;
        self.buffer.clear();
    }

    /// As `write_all`, but waits where somebody made the output non-blocking (a terminal shared with another program), and knows whether it
    /// stopped inside a line.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = bytes.get(written.saturating_sub(1)) != Some(&b'\n');
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
