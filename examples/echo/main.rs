//! The sample backend: says what it got, streams, upgrades, and breaks in every way a real backend does.
//! `echo --listen 127.0.0.1:9001 --name hello`; its paths are listed in `answers.rs` and `raw.rs`.

mod answers;
mod raw;
mod websocket;

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use clap::Parser;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// How long requests may take to end once nothing new is accepted: below the 30 s that Kubernetes gives a pod.
const DRAIN: Duration = Duration::from_secs(25);

/// A backend to try an ingress proxy with.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; repeat it for several backends in one process.
    #[arg(long, required = true, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Name in the answers, one for each --listen in the same order; else the pod's (POD_NAME or HOSTNAME), else echo.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// On SIGTERM, goes on as if nothing had happened for this long before it stops accepting.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    linger_ms: u64,
}

/// What an answer needs to know besides the request.
struct Context {
    /// `--name` of the listener.
    name: Arc<str>,
    /// The other end of the connection.
    peer: SocketAddr,
    /// Hands the connection over to a [`raw::Script`].
    takeover: mpsc::Sender<&'static raw::Script>,
    /// Changes once nothing new is accepted.
    stopping: watch::Receiver<()>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // As process 1 of a container, it would ignore a SIGTERM that it doesn't ask for.
    let mut terminate = signal(SignalKind::terminate())?;
    let own_name = ["POD_NAME", "HOSTNAME"].iter().find_map(|variable| std::env::var(variable).ok()).unwrap_or_else(|| "echo".to_owned());
    let mut names = arguments.name.into_iter();
    let mut listeners = Vec::new();
    for address in arguments.listen {
        let listener = TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("can't listen on {address}: {error}"))?;
        let name: Arc<str> = names.next().unwrap_or_else(|| own_name.clone()).into();
        println!("echo: {name} listens on {}", listener.local_addr()?);
        listeners.push((listener, name));
    }
    let (stop, stopping) = watch::channel(());
    for (listener, name) in listeners {
        tokio::spawn(accept(listener, name, stopping.clone()));
    }
    drop(stopping);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => return Ok(()),
        _ = terminate.recv() => {}
    }
    sleep(Duration::from_millis(arguments.linger_ms)).await;
    stop.send_replace(());
    // Every task holds a receiver until it has ended.
    let _ = timeout(DRAIN, stop.closed()).await;
    Ok(())
}

async fn accept(listener: TcpListener, name: Arc<str>, mut stopping: watch::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(serve(stream, peer, Arc::clone(&name), stopping.clone()));
            }
            Err(error) => {
                eprintln!("echo: {name}: accept: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Serves one connection with hyper, until a request asks for raw bytes that hyper would not send: then the connection is taken out of
/// hyper's hands, kept-alive ones included.
async fn serve(stream: TcpStream, peer: SocketAddr, name: Arc<str>, mut stopping: watch::Receiver<()>) {
    let (takeover, mut scripts) = mpsc::channel(1);
    let context = Arc::new(Context { name, peer, takeover, stopping: stopping.clone() });
    let service = service_fn(move |request: Request<Incoming>| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(answers::answer(request, &context).await) }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let end = async {
        tokio::select! {
            ended = Pin::new(&mut connection) => return ended,
            _ = stopping.changed() => Pin::new(&mut connection).graceful_shutdown(),
        }
        Pin::new(&mut connection).await
    };
    tokio::select! {
        // A client that goes away, or a broken request, is nothing to report: the proxy under test sees it.
        _ended = end => {}
        Some(script) = scripts.recv() => {
            if let Some(parts) = connection.into_parts() {
                raw::play(parts.io.into_inner(), script).await;
            }
        }
    }
}
