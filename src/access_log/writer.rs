//! The thread that writes: it may block on a slow output, nobody else does.

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

use super::{Batch, Message};

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
        let sink = Sink { file, torn: false, gone: false, lost: lost.clone() };
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
    while let Ok(Message::Batch(batch)) = queue.recv() {
        sink.write(&batch);
    }
}

/// The output.
struct Sink {
    file: File,
    /// The last write ended inside a line.
    torn: bool,
    /// The reader is gone for good.
    gone: bool,
    lost: Lost,
}

impl Sink {
    fn write(&mut self, batch: &Batch) {
        if self.gone {
            return self.lost.add(batch.lines);
        }
        if self.torn && self.put(b"\n").is_ok() {
            self.torn = false;
        }
        if let Err(error) = self.put(&batch.text) {
            self.gone = error.kind() == io::ErrorKind::BrokenPipe;
            self.lost.add(batch.lines);
        }
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
