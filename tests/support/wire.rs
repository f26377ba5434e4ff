//! One end of a connection, driven by hand: raw bytes out, and whole HTTP/1.1 messages or raw bytes in.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::SockRef;

use super::PATIENCE;

/// What large bodies are made of.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A connection with a buffer in front. Reading waits for [`PATIENCE`] at most.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of a message.
#[derive(Debug, Clone)]
pub struct Head {
    /// The request line or the status line.
    pub start: String,
    /// Names as they were written.
    pub fields: Vec<(String, String)>,
}

/// A whole message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Request or status line, and header fields.
    pub head: Head,
    /// Without its framing.
    pub body: Vec<u8>,
    /// The fields behind a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended as its framing says, and not by the end of the connection.
    pub complete: bool,
}

impl Wire {
    /// The client's end of a new connection.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, PATIENCE).unwrap_or_else(|error| panic!("no connection to {address}: {error}")))
    }

    /// A page of an admin listener.
    #[track_caller]
    pub fn page(admin: SocketAddr, page: &str) -> Message {
        Self::connect(admin).exchange(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// The socket itself, for libraries that want one. Nothing may have been read ahead.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty(), "bytes were read ahead: {:?}", String::from_utf8_lossy(&self.buffer));
        self.stream
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the other end takes our bytes");
    }

    /// As [`Self::send`], where the other end may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request and reads the response to it.
    #[track_caller]
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(&request);
        let no_body = request.as_ref().starts_with(b"HEAD ");
        let head = self.head();
        if no_body { Message { head, body: Vec::new(), trailers: Vec::new(), complete: true } } else { self.body(head) }
    }

    /// The next head; interim responses count as heads.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill("a head"), "the connection ended in mid-head: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let bytes: Vec<u8> = self.buffer.drain(..end).collect();
        Head::parse(&String::from_utf8_lossy(&bytes))
    }

    /// The next message, with its body.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        let head = self.head();
        self.body(head)
    }

    /// The rest of a message whose head was read.
    #[track_caller]
    pub fn body(&mut self, head: Head) -> Message {
        let mut message = Message { head, body: Vec::new(), trailers: Vec::new(), complete: true };
        let status = message.head.status_code();
        if matches!(status, Some(100..=199 | 204 | 304)) {
            return message;
        }
        if message.head.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            message.complete = self.chunks(&mut message);
        } else if let Some(length) = message.head.field("content-length") {
            message.body = self.up_to(length.parse().expect("a length"));
            message.complete = message.body.len().to_string() == length;
        } else if status.is_some() {
            message.body = self.rest();
        }
        message
    }

    /// Reads chunks to their end. False where the connection ended before.
    fn chunks(&mut self, message: &mut Message) -> bool {
        loop {
            let Some(line) = self.line() else { return false };
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            let data = self.up_to(size);
            message.body.extend(&data);
            if data.len() < size || self.line().is_none() {
                return false;
            }
        }
        loop {
            match self.line() {
                None => return false,
                Some(line) if line.is_empty() => return true,
                Some(line) => message.trailers.push(field(&line)),
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                break at;
            }
            if !self.fill("a line") {
                return None;
            }
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// So many bytes, fewer only where the connection ends before.
    #[track_caller]
    pub fn up_to(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill("a body") {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    /// Reads until these bytes have come, and returns everything up to their end.
    #[track_caller]
    pub fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.buffer, end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            assert!(self.fill("the bytes"), "ended before {end:?}: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Takes so many bytes at the most, and says how many there were.
    #[track_caller]
    pub fn some(&mut self, most: usize) -> usize {
        if self.buffer.is_empty() {
            assert!(self.fill("some bytes"), "the connection has ended");
        }
        let count = most.min(self.buffer.len());
        self.buffer.drain(..count);
        count
    }

    /// Everything that comes until the other end closes, orderly or not.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill("the end of the connection") {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the connection, of which everything was read that is of interest, ends in a reset: its data may not be whole.
    #[track_caller]
    pub fn is_reset(&mut self) -> bool {
        let mut block = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut block) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return true,
                Err(error) => panic!("waited for the end of the connection: {error}"),
            }
        }
    }

    /// Asserts that the other end closes, and sends nothing before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "bytes before the end: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Whether the other end has closed or sent something, asked within `within`. For what must *not* happen: true comes at once.
    pub fn stirs(&mut self, within: Duration) -> bool {
        self.stream.set_read_timeout(Some(within)).unwrap();
        let mut byte = [0];
        let result = self.stream.peek(&mut byte);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        !self.buffer.is_empty() || !matches!(&result, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Whether the other end has closed, as far as we can see without waiting.
    pub fn ended(&mut self) -> bool {
        let mut byte = [0];
        self.buffer.is_empty() && self.stirs(Duration::from_millis(1)) && !matches!(self.stream.peek(&mut byte), Ok(1))
    }

    /// Counts and throws away a body of so many bytes, without keeping it in memory.
    #[track_caller]
    pub fn skip(&mut self, count: u64) {
        let mut left = count - self.buffer.len() as u64;
        self.buffer.clear();
        let mut block = vec![0; 256 * 1024];
        while left > 0 {
            let most = block.len().min(usize::try_from(left).unwrap());
            let read = self.stream.read(&mut block[..most]).expect("the body goes on");
            assert!(read > 0, "the body ended {left} bytes early");
            left -= read as u64;
        }
    }

    /// Sends up to `most` zeros, until the other end has taken nothing for a while. Returns how many it took.
    pub fn send_until_stuck(&mut self, most: usize) -> usize {
        self.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut sent = 0;
        while sent < most {
            match self.stream.write(&ZEROS[..ZEROS.len().min(most - sent)]) {
                Ok(count) => sent += count,
                Err(_stuck) => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    #[track_caller]
    pub fn send_zeros(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let block = &ZEROS[..ZEROS.len().min(left)];
            self.send(block);
            left -= block.len();
        }
    }

    /// Our side says that it has nothing more to send.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads what there is. False at the end of the connection.
    #[track_caller]
    fn fill(&mut self, waiting_for: &str) -> bool {
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block) {
            Ok(count) => {
                self.buffer.extend(&block[..count]);
                count > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("waited {PATIENCE:?} for {waiting_for}; until then came {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_reset) => false,
        }
    }
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.trim_end().split("\r\n");
        Self { start: lines.next().unwrap_or_default().to_owned(), fields: lines.map(field).collect() }
    }

    /// The value of a field, the first where there are several.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The values of every field of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    fn status_code(&self) -> Option<u16> {
        self.start.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
    }

    /// The status of a response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.status_code().unwrap_or_else(|| panic!("no status line: {:?}", self.start))
    }

    /// The request target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// Asserts that the proxy answered by itself, with this status and reason.
    #[track_caller]
    pub fn assert_own(&self, status: u16, reason: &str) {
        let got = (self.status(), self.head.field("x-nodegate-reason"));
        assert_eq!(got, (status, Some(reason)), "{:?}", self.head);
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header field: {line:?}"));
    (name.to_owned(), value.trim().to_owned())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
