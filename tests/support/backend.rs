//! A backend whose every connection the test drives by hand.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Message, PATIENCE, Wire};

/// A listening socket on a loopback address of its own.
pub struct Backend {
    listener: TcpListener,
}

impl Backend {
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// On a port that another backend has on its own address.
    pub fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind((unused_ip(), port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The proxy's next connection.
    #[track_caller]
    pub fn accept(&self) -> Wire {
        self.accept_within(PATIENCE).unwrap_or_else(|| panic!("waited {PATIENCE:?} for a connection from the proxy"))
    }

    /// The proxy's next connection, if one comes in time. For what must *not* happen, give a short time.
    pub fn accept_within(&self, time: Duration) -> Option<Wire> {
        let deadline = Instant::now() + time;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    return Some(Wire::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        return None;
                    }
                    // The listener is polled, so that the wait can end.
                    thread::park_timeout(Duration::from_millis(2));
                }
                Err(error) => panic!("accept: {error}"),
            }
        }
    }

    /// Accepts a connection, reads one request with its body, and sends these bytes. Returns the connection and the request.
    #[track_caller]
    pub fn answer(&self, response: impl AsRef<[u8]>) -> (Wire, Message) {
        let mut wire = self.accept();
        let request = wire.message();
        wire.send(response);
        (wire, request)
    }

    /// From now on every request gets `200` and this body, on as many kept-alive connections as there are.
    pub fn serve(self, body: &'static str) -> SocketAddr {
        let address = self.address();
        self.listener.set_nonblocking(false).unwrap();
        thread::spawn(move || {
            while let Ok((stream, _)) = self.listener.accept() {
                thread::spawn(move || serve_connection(Wire::new(stream), body));
            }
        });
        address
    }
}

fn serve_connection(mut wire: Wire, body: &str) {
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    while wire.stirs(PATIENCE) && !wire.ended() {
        wire.message();
        if wire.try_send(&response).is_err() {
            return;
        }
    }
}

/// Each backend gets an address that no other test of this process uses: pools and limits are kept by address.
fn unused_ip() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 43, 100 + high, low)
}
