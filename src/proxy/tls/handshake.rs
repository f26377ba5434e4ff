//! One handshake: within a deadline, and its expensive parts by turns with the other ones.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use rustls::server::Acceptor;
use tokio::{net::TcpStream, task::yield_now};
use tokio_rustls::{Accept, LazyConfigAcceptor, server::TlsStream};

use super::{
    super::{
        connection::{Connection, Timing},
        stream::{Socket, Stream},
    },
    Server,
    turns::{Flight, Turns},
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
        Err(Failure::Dropped) => {
            worker.count(|numbers| numbers.handshakes_dropped += 1);
            tracing::debug!(peer = %connection.peer(), "handshake dropped: too many others are waiting");
            None
        }
        Err(Failure::Failed(error)) => {
            worker.count(|numbers| numbers.handshakes_failed += 1);
            tracing::debug!(peer = %connection.peer(), %error, "handshake failed");
            None
        }
    }
}

/// Why there is no connection.
enum Failure {
    /// Too many were waiting, and this one for longest.
    Dropped,
    Failed(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

async fn shake(connection: &Rc<Connection>, socket: TcpStream, server: &Server) -> Result<Stream, Failure> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), Socket::new(socket)).await?;
    let name = hello.client_hello().server_name().map(ToOwned::to_owned);
    connection.set_server_name(name.as_deref());
    let (config, clients) = server.config(name.as_deref())?;
    let stream = in_turns(&connection.worker().turns, hello.into_stream(config)).await?;
    if let Some(clients) = clients {
        connection.set_client(clients, stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec());
    }
    Ok(Stream::Tls(Box::new(stream)))
}

/// Makes a handshake whose every part waits for its turn. Signing takes as long as dozens of requests, and so does looking at a client's certificates: whoever
/// has a request goes between any two.
async fn in_turns(turns: &Rc<Turns>, accept: Accept<Socket>) -> Result<TlsStream<Socket>, Failure> {
    // On its own, and gone before the connection's first request.
    let mut accept = Box::pin(accept);
    let stirred = Arc::new(Stirred::default());
    let waker = Waker::from(Arc::clone(&stirred));
    let mut flight = Flight::First;
    loop {
        let turn = turns.take(flight).await.ok_or(Failure::Dropped)?;
        let polled = accept.as_mut().poll(&mut Context::from_waker(&waker));
        // Until the worker has looked at its sockets again.
        yield_now().await;
        drop(turn);
        if let Poll::Ready(result) = polled {
            return Ok(result?);
        }
        poll_fn(|cx| stirred.poll(cx)).await;
        flight = Flight::Later;
    }
}

/// Whether what a handshake waits for has happened, without asking it: that would be to compute its next part.
#[derive(Default)]
struct Stirred {
    happened: AtomicBool,
    task: AtomicWaker,
}

impl Stirred {
    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        if self.happened.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Stirred {
    fn wake(self: Arc<Self>) {
        self.happened.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};
    use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::ServerName, sign::SingleCertAndKey};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::{super::own, *};
    use crate::certificate::{Offer, ServerTrust};

    fn server() -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let certificate = SingleCertAndKey::from(Arc::clone(own::certificate().unwrap().key()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_cert_resolver(Arc::new(certificate)))
    }

    #[tokio::test]
    async fn no_part_of_a_handshake_is_computed_out_of_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let connector = TlsConnector::from(Arc::clone(ServerTrust::anyone().unwrap().config(Offer::Http1)));
        let mut client = Box::pin(connector.connect(ServerName::try_from("a.example").unwrap(), client));
        assert!(poll!(&mut client).is_pending());
        let hello = LazyConfigAcceptor::new(Acceptor::default(), Socket::new(socket)).await.unwrap();

        let turns = Rc::new(Turns::default());
        let turn = turns.take(Flight::First).await;
        let mut handshake = Box::pin(in_turns(&turns, hello.into_stream(server())));
        for _ in 0..100 {
            assert!(poll!(&mut handshake).is_pending() && poll!(&mut client).is_pending());
            yield_now().await;
        }
        drop(turn);
        // Its first answer, and then it waits for the client.
        let turn = loop {
            assert!(poll!(&mut handshake).is_pending());
            if let Some(turn) = turns.take(Flight::First).now_or_never() {
                break turn;
            }
            yield_now().await;
        };
        // The client has said all that there is to say.
        assert!(client.await.is_ok());
        for _ in 0..100 {
            assert!(poll!(&mut handshake).is_pending());
            yield_now().await;
        }
        drop(turn);
        assert!(handshake.await.is_ok());
    }
}
