//! One handshake: within a deadline, and its expensive part a few at a time.

use std::{future::poll_fn, io, rc::Rc, task::Poll};

use rustls::server::Acceptor;
use tokio::{net::TcpStream, task::yield_now};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    super::{
        connection::{Connection, Timing},
        stream::{Socket, Stream},
    },
    Server,
};

/// Makes a connection's handshake, and tells the connection which host the client has asked for. `None`: it failed, or came too late, and is counted.
pub(in super::super) async fn handshake(connection: &Rc<Connection>, socket: TcpStream, server: &Server) -> Option<Stream> {
    let worker = connection.worker();
    connection.time(Timing::Handshake);
    let late = poll_fn(|cx| {
        connection.remember_waker(cx.waker());
        connection.poll_late(cx)
    });
    let result = tokio::select! {
        biased;
        result = shake(connection, socket, server) => result,
        () = late => {
            worker.count(|numbers| numbers.handshakes_timed_out += 1);
            return None;
        }
    };
    connection.has_shaken();
    match result {
        Ok(stream) => {
            worker.count(|numbers| numbers.handshakes += 1);
            Some(stream)
        }
        Err(error) => {
            worker.count(|numbers| numbers.handshakes_failed += 1);
            tracing::debug!(peer = %connection.peer(), %error, "handshake failed");
            None
        }
    }
}

async fn shake(connection: &Rc<Connection>, socket: TcpStream, server: &Server) -> io::Result<Stream> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), Socket::new(socket)).await?;
    let name = hello.client_hello().server_name().map(ToOwned::to_owned);
    connection.set_server_name(name.as_deref());
    let (config, clients) = server.config(name.as_deref())?;
    // Signing takes as long as dozens of requests: whoever has a request goes between any two. (Not so of the few clients that are asked for another
    // key first: they sign when their second hello has come.)
    let turn = connection.worker().handshake_turn().await;
    let mut rest = Box::pin(hello.into_stream(config));
    let first = futures_util::poll!(&mut rest);
    // Until the worker has looked at its sockets again.
    yield_now().await;
    drop(turn);
    let stream = match first {
        Poll::Ready(result) => result?,
        Poll::Pending => rest.await?,
    };
    if let Some(clients) = clients {
        connection.set_client(clients, stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec());
    }
    Ok(Stream::Tls(Box::new(stream)))
}
