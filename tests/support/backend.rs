//! A backend whose every connection the test drives by hand.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{Message, PATIENCE, Wire};

/// A listening socket on a loopback address of its own.
pub struct Backend {
    listener: TcpListener,
}

impl Backend {
    pub fn start() -> Self {
        Self::on(unused_ip())
    }

    /// On an address that others may use, too.
    pub fn on(ip: impl Into<IpAddr>) -> Self {
        let listener = TcpListener::bind((ip.into(), 0)).unwrap();
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
        self.serve_each(move |_, wire| serve_connection(wire, body))
    }

    /// From now on every request gets `200` and the number of the connection that it came on, counted from 0.
    pub fn serve_numbers(self) -> SocketAddr {
        self.serve_each(|number, wire| serve_connection(wire, &number.to_string()))
    }

    /// From now on every connection is driven by `serve`, on a thread of its own, and told its number.
    pub fn serve_each(self, serve: impl Fn(usize, Wire) + Send + Sync + 'static) -> SocketAddr {
        let address = self.address();
        self.listener.set_nonblocking(false).unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for (number, stream) in self.listener.incoming().map_while(Result::ok).enumerate() {
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(number, Wire::new(stream)));
            }
        });
        address
    }
}

/// An address where connecting is refused, for as long as this lives.
pub struct Refusing(Socket);

impl Refusing {
    pub fn start() -> Self {
        // Bound and not listening: nobody else gets the port.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((unused_ip(), 0)).into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// From now on connections are taken.
    pub fn listen(self) -> Backend {
        self.0.listen(128).unwrap();
        self.0.set_nonblocking(true).unwrap();
        Backend { listener: self.0.into() }
    }
}

/// An address where connecting takes for ever: its listening queue is full, so that the kernel drops whatever else comes.
pub struct Full {
    socket: Socket,
    _queued: Vec<TcpStream>,
}

impl Full {
    pub fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((unused_ip(), 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let queued = std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
        Self { socket, _queued: queued }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
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
