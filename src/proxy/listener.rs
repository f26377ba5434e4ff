//! Listening sockets, one for each address and worker (SO_REUSEPORT), and the loop that accepts from one of them.

use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::Arc,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{
    connection::{self, Connection},
    http2, proxy_protocol,
    stream::Stream,
    tls,
    worker::Worker,
};
use crate::config::limits;

/// Brings the sockets of one address to `count`; the kernel spreads connections over them. Those that are there already stay, also where they are more:
/// each has a queue of its own, which somebody must accept from. With port 0, all share the port that the first one got. None of the new ones listens.
pub(super) fn bind(
    mut address: SocketAddr,
    mut listeners: Vec<StdListener>,
    count: usize,
    sharing: Sharing,
) -> io::Result<Vec<StdListener>> {
    if listeners.is_empty() && sharing == Sharing::Refused {
        refuse_to_share(address)?;
    }
    while listeners.len() < count {
        let listener = bind_one(address)?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Whether another process may have the address, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// It is one that we take over from.
    Wanted,
    /// Nobody has it.
    Refused,
}

/// With SO_REUSEPORT a second Nodegate of the same user would join in silently and get a share of the connections: without it, the kernel says
/// that the address is in use. (SO_REUSEADDR, so that connections of a process that has ended don't count.)
fn refuse_to_share(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn bind_one(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// From here on, the kernel gives the socket its share of the address's connections. One that listens already may be told again.
pub(super) fn listen(listener: &StdListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    // Whole messages are written at once: waiting for more to send only delays them. On Linux each connection inherits this, which saves telling it.
    socket.set_tcp_nodelay(true)?;
    socket.listen(limits::LISTEN_BACKLOG)
}

/// Accepts until the worker drains. At the connection limit one client waits in our hands, and the others in the kernel's queue.
pub(super) async fn accept(worker: Rc<Worker>, listener: Rc<TcpListener>, address: SocketAddr) {
    let entrance = worker.entrance(address);
    let welcome = |stream, peer| welcome(&worker, stream, peer, address.port(), entrance.clone());
    let mut failing = false;
    loop {
        let changed = worker.listeners.changed();
        if worker.is_draining() {
            break;
        }
        let accepted = tokio::select! {
            biased;
            // First, since waiting to be told of the others costs more than accepting. Both were looked at just now, so that it takes one
            // connection too many at the most.
            accepted = poll_fn(|cx| listener.poll_accept(cx)), if !worker.listeners.has_yielded(address) => accepted,
            () = worker.drained() => break,
            () = changed => continue,
        };
        match accepted {
            // Before it costs anybody else their place.
            Ok((_, peer)) if !admits(&worker, peer) => failing = false,
            Ok((stream, peer)) => {
                failing = false;
                if !worker.has_room() {
                    tokio::select! {
                        biased;
                        () = worker.drained() => {}
                        () = wait_for_room(&worker) => {}
                    }
                }
                welcome(stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                worker.count(|numbers| numbers.accept_paused += 1);
                // Once, not with every try.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "can't accept connections; trying again");
                }
                sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
    // Where another process accepts from the same socket, that stays open, and its queue is the other's.
    if !worker.listeners.has_yielded(address) {
        drain_queue(&worker, &listener, welcome);
    }
    worker.stopped_listening(listener);
}

/// Closing a listening socket resets the connections in its queue, so take them in first.
fn drain_queue(worker: &Worker, listener: &TcpListener, welcome: impl Fn(TcpStream, SocketAddr)) {
    while let Ok((stream, peer)) = SockRef::from(listener).accept() {
        let Some(peer) = peer.as_socket().filter(|peer| admits(worker, *peer)) else { continue };
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream.into())) {
            welcome(stream, peer);
        }
    }
}

/// Somebody wants in: at the limit, whoever has been idle longest goes. It is looked for again and again, since busy connections become idle without
/// a word.
async fn wait_for_room(worker: &Worker) {
    worker.count(|numbers| numbers.accept_paused += 1);
    while !worker.has_room() {
        let notified = worker.room.notified();
        let latest = Instant::now().checked_sub(limits::FIRST_REQUEST_GRACE);
        if latest.is_some_and(|latest| worker.connections.evict_longest_idle(latest)) {
            worker.count(|numbers| numbers.connections_evicted += 1);
        }
        // Whichever comes first: neither needs to be told apart.
        let _ = timeout(limits::ACCEPT_PAUSE, notified).await;
    }
}

/// Whether this one is let in, for now.
fn admits(worker: &Worker, peer: SocketAddr) -> bool {
    // For whom a proxy passes a connection on isn't known yet.
    is_proxy(worker, peer) || worker.admits(peer)
}

fn welcome(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, port: u16, entrance: Entrance) {
    let connection = Connection::register(worker, peer, port, matches!(entrance, Entrance::Tls(_)));
    if is_proxy(worker, peer) {
        tokio::task::spawn_local(serve_proxied(connection, stream, entrance));
        return;
    }
    match entrance {
        Entrance::Http1 => tokio::task::spawn_local(connection::serve_http1(connection, Stream::Plain(stream))),
        Entrance::Http2 => tokio::task::spawn_local(http2::serve(connection, Stream::Plain(stream))),
        Entrance::Tls(server) => tokio::task::spawn_local(connection::serve_tls(connection, stream, server)),
    };
}

/// Whether `--proxy-protocol` names this one.
fn is_proxy(worker: &Worker, peer: SocketAddr) -> bool {
    worker.settings.proxy_protocol.as_ref().is_some_and(|proxies| proxies.contains(peer.ip()))
}

async fn serve_proxied(connection: Rc<Connection>, mut stream: TcpStream, entrance: Entrance) {
    if !Box::pin(proxy_protocol::greet(&connection, &mut stream)).await {
        return;
    }
    match entrance {
        Entrance::Http1 => connection::serve_http1(connection, Stream::Plain(stream)).await,
        Entrance::Http2 => http2::serve(connection, Stream::Plain(stream)).await,
        Entrance::Tls(server) => connection::serve_tls(connection, stream, server).await,
    }
}

/// How connections begin at an address.
#[derive(Clone)]
pub(super) enum Entrance {
    /// With a request in HTTP/1.
    Http1,
    /// With the preface of HTTP/2.
    Http2,
    /// With a handshake, in which the client chooses between the two.
    Tls(Arc<tls::Server>),
}

/// Errors of `accept` that concern the one connection that was to be accepted (accept(2)): the next may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_sends_at_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = bind_one(address.parse().unwrap()).unwrap();
            listen(&listener).unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.set_nonblocking(false).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert!(accepted.nodelay().unwrap() && !client.nodelay().unwrap(), "{address}");
        }
    }
}
