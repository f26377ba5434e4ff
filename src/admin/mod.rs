//! The admin listeners: health, metrics, routes, explain. They read snapshots and change nothing.

pub mod client;
mod pages;
mod question;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
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

use crate::{access_log, config::limits, leader::Role, proxy, source::Report, status, table};

/// What the pages show.
#[derive(Debug)]
pub struct State {
    /// The table in force.
    pub table: table::Reader,
    /// The control thread's state.
    pub report: watch::Receiver<Report>,
    /// The workers, once they run.
    pub proxy: OnceLock<proxy::Handle>,
    /// Set at the first signal.
    pub draining: watch::Receiver<bool>,
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
}

/// Which pages a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Admin,
    /// `/metrics`, `/healthz` and `/readyz`, for a Prometheus that scrapes the node's address.
    Metrics,
}

/// A listener that is bound and doesn't answer yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    scope: Scope,
}

impl Listener {
    /// Binds it. Errors: those of the socket, an address in use above all.
    pub async fn bind(address: SocketAddr, scope: Scope) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, scope })
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
        let site = pages::Site { scope, names_allowed: !address.ip().is_loopback(), state };
        loop {
            // The semaphore is never closed, so that this can't fail; without a place the connection is served all the same.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            match socket.accept().await {
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
