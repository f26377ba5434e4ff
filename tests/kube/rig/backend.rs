//! A backend that answers every request with its name, and an application: a backend with the Service and EndpointSlice that lead to it.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::{net::TcpListener, task::JoinSet};

use super::{Cluster, objects};

/// An HTTP/1.1 server whose every answer is 200 with its name as the body. Ends when dropped.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Backend {
    /// Starts one on `address`; port 0 is any port.
    pub async fn start(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port for a backend");
        let address = listener.local_addr().expect("the backend's address");
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Bytes::copy_from_slice(name.as_bytes())));
        Self { address, _tasks: tasks }
    }
}

async fn serve(listener: TcpListener, name: Bytes) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let name = name.clone();
        let answer = service_fn(move |_| {
            let response = Response::new(Full::new(name.clone()));
            async move { Ok::<_, Infallible>(response) }
        });
        connections.spawn(async move { _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await });
        while connections.try_join_next().is_some() {}
    }
}

/// A backend behind a Service (ClusterIP, one port) with one EndpointSlice that says it is ready. All three have the same name.
#[derive(Debug)]
pub struct App {
    pub backend: Backend,
}

impl App {
    /// Starts the backend only: the objects don't exist yet.
    pub async fn start(name: &str) -> Self {
        // The port is the operating system's choice, the address unique in this process: no two tests, in whichever process, can meet.
        let backend = Backend::start(name, SocketAddr::new(Cluster::next_cluster_ip().into(), 0)).await;
        Self { backend }
    }

    /// Starts the backend and creates its objects.
    pub async fn deploy(client: &Client, namespace: &str, name: &str) -> Self {
        let app = Self::start(name).await;
        objects::create(client, namespace, &objects::service(name, app.backend.address)).await;
        objects::create(client, namespace, &objects::slice(name, name, true)).await;
        app
    }
}
