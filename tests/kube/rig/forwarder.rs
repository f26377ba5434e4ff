//! A TCP forwarder between Nodegate and the API server, which a test can cut: Nodegate loses the API server while the test still has it.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// The forwarder. Its address stays the same through [`Forwarder::cut`] and [`Forwarder::restore`].
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    target: SocketAddr,
    running: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// One that listens and forwards to `target`. It listens on `target`'s IP address, so that a certificate fits both.
    pub async fn open(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).await.expect("a port for the forwarder");
        let address = listener.local_addr().expect("the forwarder's address");
        Self { address, target, running: Some(tokio::spawn(forward(listener, target))) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and refuses new ones.
    pub async fn cut(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            // Only once the task is gone are its sockets closed.
            _ = running.await;
        }
    }

    /// Forwards again.
    pub async fn restore(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the forwarder's port, again");
        self.running = Some(tokio::spawn(forward(listener, self.target)));
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

async fn forward(listener: TcpListener, target: SocketAddr) {
    // Dropped with this task, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        connections.spawn(async move {
            // A target that isn't there looks to the client as a connection closed at once.
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
