//! Connections from outside that stay open, with what is there on each to be seen: an answer, nothing yet, or its end.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};

use super::site::{HOST, Site};
use crate::wait::{PATIENCE, eventually};

/// For an answer on a connection that is kept.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Between two requests of those who were there before.
const PACE: Duration = Duration::from_millis(10);
/// An answer's beginning, up to its status.
const STATUS_LINE: usize = "HTTP/1.1 200".len();

/// A client that has asked once.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// So many at once.
    pub fn open(site: &Site<'_>, door: SocketAddr, count: usize) -> anyhow::Result<Vec<Self>> {
        let open = || {
            let mut stream = TcpStream::connect(door)?;
            ask(&mut stream)?;
            stream.set_nonblocking(true)?;
            io::Result::Ok(Self(stream))
        };
        let connections: io::Result<Vec<Self>> = site.cluster.internet.within(|| (0..count).map(|_| open()).collect());
        connections.with_context(|| format!("{door}: no connection"))
    }

    /// The status of the answer; `None` while there is none. An error where the connection is over.
    pub fn answer(&self) -> anyhow::Result<Option<u16>> {
        let mut start = [0; STATUS_LINE];
        match self.0.peek(&mut start) {
            Ok(STATUS_LINE) => Ok(Some(String::from_utf8_lossy(&start[STATUS_LINE - 3..]).parse()?)),
            Ok(0) => Err(anyhow!("closed without an answer")),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Clients that ask again and again, each on its one connection, and never connect anew.
#[derive(Debug)]
pub struct Kept {
    over: Over,
    asked: Arc<AtomicU32>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Tells the thread to end, at the latest when the scenario gives up.
#[derive(Debug, Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Kept {
    pub fn begin(site: &Site<'_>, door: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let connect = || {
            let stream = TcpStream::connect(door)?;
            stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
            io::Result::Ok(BufReader::new(stream))
        };
        let streams: io::Result<Vec<_>> = site.cluster.internet.within(|| (0..count).map(|_| connect()).collect());
        let (mut streams, over, asked) = (streams?, Over::default(), Arc::<AtomicU32>::default());
        let (stop, count) = (Arc::clone(&over.0), Arc::clone(&asked));
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for stream in &mut streams {
                    let asked = count.load(Ordering::Relaxed);
                    exchange(stream).with_context(|| format!("request {asked} of the clients that were there before"))?;
                    count.fetch_add(1, Ordering::Relaxed);
                    thread::park_timeout(PACE);
                }
            }
            Ok(())
        });
        Ok(Self { over, asked, thread })
    }

    /// Waits until so many more of their requests have been answered, or one hasn't.
    pub async fn ask(&self, more: u32) -> anyhow::Result<()> {
        let wanted = self.asked.load(Ordering::Relaxed) + more;
        eventually("clients that were there before are served", PATIENCE, async || {
            let asked = self.asked.load(Ordering::Relaxed);
            if asked < wanted && !self.thread.is_finished() { Err(format!("{} to go", wanted - asked)) } else { Ok(()) }
        })
        .await
    }

    /// How many requests were answered; an error if one wasn't.
    pub fn end(self) -> anyhow::Result<u32> {
        drop(self.over);
        self.thread.join().map_err(|_panic| anyhow!("the clients panicked"))??;
        Ok(self.asked.load(Ordering::Relaxed))
    }
}

fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
}

/// One request, and all of its answer: 200.
fn exchange(stream: &mut BufReader<TcpStream>) -> anyhow::Result<()> {
    ask(stream.get_mut())?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(stream.read_line(&mut head)? > 0, "the connection ended after {head:?}");
    }
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.with_context(|| format!("no length in {head}"))?];
    Ok(stream.read_exact(&mut body)?)
}
