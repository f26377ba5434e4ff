//! The sample backend: says what it got, streams, upgrades, and breaks in every way a real backend does.
//! `echo --listen 127.0.0.1:9001 --name hello`; its paths are listed in `answers.rs` and `raw.rs`.

mod answers;
mod raw;
mod websocket;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use clap::Parser;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A backend to try an ingress proxy with.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; repeat it for several backends in one process.
    #[arg(long, required = true, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Name in the answers, one for each --listen in the same order.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
}

/// What an answer needs to know besides the request.
struct Context {
    /// `--name` of the listener.
    name: Arc<str>,
    /// The other end of the connection.
    peer: SocketAddr,
    /// Hands the connection over to a [`raw::Script`].
    takeover: mpsc::Sender<&'static raw::Script>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut names = arguments.name.into_iter();
    let mut listeners = Vec::new();
    for address in arguments.listen {
        let listener = TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("can't listen on {address}: {error}"))?;
        let name: Arc<str> = names.next().unwrap_or_else(|| "echo".to_owned()).into();
        println!("echo: {name} listens on {}", listener.local_addr()?);
        listeners.push((listener, name));
    }
    for (listener, name) in listeners {
        tokio::spawn(accept(listener, name));
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve(stream, peer, Arc::clone(&name)));
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
async fn serve(stream: TcpStream, peer: SocketAddr, name: Arc<str>) {
    let (takeover, mut scripts) = mpsc::channel(1);
    let context = Arc::new(Context { name, peer, takeover });
    let service = service_fn(move |request: Request<Incoming>| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(answers::answer(request, &context).await) }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        // A client that goes away, or a broken request, is nothing to report: the proxy under test sees it.
        _ended = &mut connection => {}
        Some(script) = scripts.recv() => {
            if let Some(parts) = connection.into_parts() {
                raw::play(parts.io.into_inner(), script).await;
            }
        }
    }
}
