//! Clients that never stop asking, and remember whatever went wrong.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::{
    rig::Node,
    support::{GET, PATIENCE, eventually},
};

/// Clients of each sort for each address.
const CLIENTS: usize = 4;

/// Clients that run until [`Load::stop`].
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

pub type Connections = [usize; 2 * CLIENTS];

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Requests answered as they should be.
    answered: AtomicUsize,
    /// For each client that keeps its connection: how many it has had.
    connections: [AtomicUsize; 2 * CLIENTS],
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// On both addresses of the node: clients that keep their connection for as long as the proxy lets them, and clients that open one for each request.
    pub fn start(node: &Node) -> Self {
        Self::of(node, true)
    }

    /// Without the clients that keep their connection.
    pub fn of_new_connections(node: &Node) -> Self {
        Self::of(node, false)
    }

    fn of(node: &Node, with_kept: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = Vec::new();
        for index in 0..2 * CLIENTS {
            let address = if index % 2 == 0 { node.http } else { node.http6 };
            let (kept, fresh) = (Arc::clone(&shared), Arc::clone(&shared));
            if with_kept {
                clients.push(thread::spawn(move || kept.keep(index, address)));
            }
            clients.push(thread::spawn(move || {
                while !fresh.stop.load(Ordering::Relaxed) {
                    fresh.note("new connection", connect(address).and_then(|mut stream| exchange(&mut stream)).map(drop));
                }
            }));
        }
        let load = Self { shared, clients };
        load.wait_for_more(100);
        load
    }

    /// Waits for so many more answers.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let before = self.shared.answered.load(Ordering::Relaxed);
        eventually("answers under load", || (self.shared.answered.load(Ordering::Relaxed) >= before + count).then_some(()));
    }

    /// How many connections each client that keeps them has had.
    pub fn connections(&self) -> Connections {
        self.shared.connections.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Waits until each of these clients has opened another one since.
    #[track_caller]
    pub fn wait_for_reconnects(&self, since: Connections) {
        eventually("clients reconnect", || self.connections().iter().zip(since).all(|(now, before)| *now > before).then_some(()));
    }

    /// Ends it, and says how many requests were answered. Panics if any failed.
    #[track_caller]
    pub fn stop(self) -> usize {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        let answered = self.shared.answered.load(Ordering::Relaxed);
        let failures = self.shared.failures.lock().unwrap();
        println!("{answered} requests answered, {} failed", failures.len());
        assert!(failures.is_empty(), "{} of {answered} failed: {:?}", failures.len(), &failures[..failures.len().min(10)]);
        answered
    }
}

impl Shared {
    fn note(&self, what: &str, result: Result<(), String>) {
        match result {
            Ok(()) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.failures.lock().unwrap().push(format!("{what}: {error}")),
        }
    }

    fn keep(&self, index: usize, address: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut stream = match connect(address) {
                Ok(stream) => stream,
                Err(error) => {
                    self.note("kept connection", Err(error));
                    continue;
                }
            };
            self.connections[index].fetch_add(1, Ordering::Relaxed);
            loop {
                let result = exchange(&mut stream);
                let last = !matches!(result, Ok(false));
                self.note("kept connection", result.map(drop));
                if last || self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Ok(stream)
}

/// One request. True if the proxy says that it closes the connection.
fn exchange(stream: &mut TcpStream) -> Result<bool, String> {
    stream.write_all(GET.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = Vec::new();
    let mut block = [0; 1024];
    while !answer.ends_with(b"hello") {
        match stream.read(&mut block).map_err(|error| format!("read: {error}"))? {
            0 => return Err(format!("ended after {:?}", String::from_utf8_lossy(&answer))),
            count => answer.extend(&block[..count]),
        }
    }
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    if text.starts_with("http/1.1 200") { Ok(text.contains("connection: close")) } else { Err(text) }
}
