//! The admin listeners: health, metrics, routes, explain. They read snapshots and change nothing.

pub mod client;
mod pages;
mod question;

use std::{
    convert::Infallible,
    fs, io,
    net::{SocketAddr, TcpListener as StdListener},
    os::unix::fs::MetadataExt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time,
};

pub use question::{BadQuestion, Question};

use crate::{access_log, config::limits, convergence, event, leader::Role, metrics, proxy, source::Report, status, table};

/// What the pages show.
#[derive(Debug)]
pub struct State {
    /// The table in force.
    pub table: table::Reader,
    /// The control thread's state.
    pub report: watch::Receiver<Report>,
    /// What the writer of Events has done.
    pub events: watch::Receiver<event::Tally>,
    /// The workers, once they run.
    pub proxy: OnceLock<proxy::Handle>,
    /// Set at the first signal.
    pub draining: watch::Receiver<bool>,
    /// Where this process stands between the one before and the one after it.
    pub succession: Succession,
    /// What the access log couldn't write.
    pub log_lost: access_log::Lost,
    /// What is written to the cluster; nothing in file mode.
    pub cluster: Option<Cluster>,
    /// The effective settings; nothing secret may be among them.
    pub settings: Value,
    /// When the process started.
    pub started: SystemTime,
}

/// What this process writes to its cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Whether it leads.
    pub role: Role,
    /// What it has written into Ingresses.
    pub status: Arc<status::Counters>,
    /// What it has reported of the versions that it serves.
    pub reports: Arc<convergence::Counters>,
}

/// A process that takes over from another on the same node, and hands over to the next ([`crate::handover`]).
#[derive(Debug)]
pub struct Succession {
    /// Admin and metrics addresses at which another process answers: nothing is accepted there.
    pub answered_elsewhere: watch::Receiver<Vec<SocketAddr>>,
    /// Whether the process before this one still serves, by a table.
    pub predecessor_serves: watch::Receiver<bool>,
    /// What became of handovers.
    pub counts: Arc<metrics::Handovers>,
}

impl State {
    /// Why this proxy shouldn't get requests, if it shouldn't: what `/readyz` answers.
    pub fn not_ready(&self) -> Option<&'static str> {
        if *self.draining.borrow() {
            return Some("draining");
        }
        if !self.report.borrow().ready {
            return Some("waiting for the first complete configuration");
        }
        if self.proxy.get().is_none() { Some("starting the workers") } else { None }
    }

    /// Why this node shouldn't get requests, if it shouldn't: what `/nodez` answers. While a new process starts, the old one serves.
    pub fn node_not_ready(&self) -> Option<&'static str> {
        self.not_ready().filter(|_| *self.draining.borrow() || !*self.succession.predecessor_serves.borrow())
    }
}

/// What tells the processes of one container from all others, on a node whose containers share the network: the number of their PID namespace.
pub fn process_namespace() -> io::Result<String> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino().to_string())
}

/// Which pages a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Admin,
    /// `/metrics`, `/healthz`, `/readyz` and `/nodez`, for a Prometheus that scrapes the node's address.
    Metrics,
}

/// A listener that is bound and doesn't answer yet.
#[derive(Debug)]
pub struct Listener {
    socket: Arc<TcpListener>,
    address: SocketAddr,
    scope: Scope,
}

impl Listener {
    /// Binds it. Errors: those of the socket, an address in use above all.
    pub async fn bind(address: SocketAddr, scope: Scope) -> io::Result<Self> {
        Self::new(TcpListener::bind(address).await?, scope)
    }

    /// Takes a socket over that listens already.
    pub fn adopt(socket: StdListener, scope: Scope) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(TcpListener::from_std(socket)?, scope)
    }

    fn new(socket: TcpListener, scope: Scope) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self { socket: Arc::new(socket), address, scope })
    }

    /// Its socket, for another process.
    pub fn socket(&self) -> Arc<TcpListener> {
        Arc::clone(&self.socket)
    }

    /// Where it listens: the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which pages it has.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Answers until dropped.
    pub async fn serve(self, state: Arc<State>) -> Infallible {
        let Self { socket, address, scope } = self;
        let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
        // A web page may point a name of its own at 127.0.0.1 and have a browser on this machine read the answers. On loopback nobody needs a
        // name other than localhost; elsewhere names are legitimate.
        let site = pages::Site { scope, names_allowed: !address.ip().is_loopback(), state: Arc::clone(&state) };
        let mut elsewhere = state.succession.answered_elsewhere.clone();
        loop {
            // The semaphore is never closed, so that this can't fail; without a place the connection is served all the same.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            match accept(&socket, address, &mut elsewhere).await {
                Ok((stream, _)) => {
                    let site = site.clone();
                    tokio::spawn(async move {
                        connection(stream, site).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, listener = ?scope, "can't accept");
                    time::sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The next connection, while no other process answers at the address.
async fn accept(
    socket: &TcpListener,
    address: SocketAddr,
    elsewhere: &mut watch::Receiver<Vec<SocketAddr>>,
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        if elsewhere.wait_for(|elsewhere| !elsewhere.contains(&address)).await.is_err() {
            // Nobody can change it any more: this process is about to end, and the other one answers.
            std::future::pending::<()>().await;
        }
        tokio::select! {
            biased;
            Ok(()) = elsewhere.changed() => {}
            accepted = socket.accept() => return accepted,
        }
    }
}

/// One connection, one request: then neither can be held.
async fn connection(stream: TcpStream, site: pages::Site) {
    let service = service_fn(move |request: Request<Incoming>| {
        let site = site.clone();
        async move { Ok::<Response<Full<Bytes>>, Infallible>(site.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(limits::ADMIN_HEAD_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(limits::ADMIN_REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Neither a client that goes away nor one that is too slow is worth a word.
    let _ = time::timeout(limits::ADMIN_REQUEST_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests;
