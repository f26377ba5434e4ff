//! The task that runs one client connection: guard, HTTP server, and what comes after them.

use std::{future::poll_fn, pin::Pin, rc::Rc, sync::Arc, task::Poll};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    super::{error::Reason, guard::Guard, handler, http2, stream::Stream, tls, worker::Worker},
    Connection, Lane,
};
use crate::config::limits::{self, Limits};

/// Runs a connection that begins with a handshake, in which the client chooses the version of HTTP.
pub(crate) async fn serve_tls(connection: Rc<Connection>, stream: TcpStream, server: Arc<tls::Server>) {
    // On its own: a connection that has come through has no more use for the room.
    if let Some(stream) = Box::pin(tls::handshake(&connection, stream, &server)).await {
        if stream.has_chosen_http2() {
            Box::pin(http2::serve(connection, stream)).await;
        } else {
            serve_http1(connection, stream).await;
        }
    }
}

/// Runs a connection to its end. The HTTP server and its buffers are there only while the client has something to say: idle connections are many, and
/// these are most of what one costs.
pub(crate) async fn serve_http1(connection: Rc<Connection>, stream: Stream) {
    let builder = server_builder(&connection.worker.settings.limits);
    let lane = Lane::http1(Rc::clone(&connection));
    let mut guard = Guard::new(stream, Rc::clone(&lane));
    loop {
        let idle = CountedIdle::new(&connection.worker);
        guard.stirred().await;
        drop(idle);
        // On its own: within, an idle connection would keep the room for it, and accepting one would move it eight times.
        guard = match Box::pin(attend(&lane, &builder, guard)).await {
            Some(idle) => idle,
            None => return,
        };
    }
}

/// One of [`Numbers::connections_idle`](crate::metrics::Numbers::connections_idle), until dropped.
struct CountedIdle<'a>(&'a Worker);

impl<'a> CountedIdle<'a> {
    fn new(worker: &'a Worker) -> Self {
        worker.count(|numbers| numbers.connections_idle += 1);
        Self(worker)
    }
}

impl Drop for CountedIdle<'_> {
    fn drop(&mut self) {
        self.0.count(|numbers| numbers.connections_idle -= 1);
    }
}

fn server_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The guard keeps the deadlines; without a timer the builder's own would be off silently.
    builder.keep_alive(true).half_close(false).header_read_timeout(None);
    // Its own date stands still when the clock is set back, until the old time has come again.
    builder.auto_date_header(false);
    builder.max_buf_size(limits.request_head_bytes.max(limits::SERVER_BUFFER_BYTES));
    if limits.request_header_count != limits::REQUEST_HEADER_COUNT {
        // Any number but its own costs the server an allocation for each request.
        builder.max_headers(limits.request_header_count);
    }
    builder
}

/// Serves a client until it has been idle for a while, then returns its socket; or until the connection ends.
async fn attend(lane: &Rc<Lane>, builder: &http1::Builder, guard: Guard) -> Option<Guard> {
    let connection = lane.connection();
    let service = service_fn(|request| handler::handle_http1(Rc::clone(lane), request));
    let mut server = builder.serve_connection(TokioIo::new(guard), service);
    let mut leaving = false;
    let result = poll_fn(|cx| {
        lane.remember_waker(cx.waker());
        let result = Pin::new(&mut server).poll(cx);
        if result.is_ready() {
            return result.map(Some);
        }
        // A connection that has begun a head, or has still to write, is let finish; every other one closes as soon as it has no request.
        if !leaving && connection.wants_to_end() {
            leaving = true;
            Pin::new(&mut server).graceful_shutdown();
            return Pin::new(&mut server).poll(cx).map(Some);
        }
        if !leaving && lane.poll_rest(cx).is_ready() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await;
    let Some(result) = result else {
        let parts = server.into_parts();
        let guard = parts.io.into_inner();
        // The guard waits for a head, so the server has read all there was before it. If the two should ever disagree, nobody knows what the next bytes are.
        if parts.read_buf.is_empty() {
            return Some(guard);
        }
        debug_assert!(false, "left over: {:?}", parts.read_buf);
        guard.reset();
        return None;
    };
    let ended_well = result.is_ok();
    if let Err(error) = result {
        if error.is_parse() {
            // The guard let pass what the server doesn't understand, and it has answered by itself.
            connection.record_refusal(Reason::BadRequest);
        }
        tracing::debug!(peer = %connection.peer, error = &error as &dyn std::error::Error, "connection ended");
    }
    let tunnel = lane.tunnel.borrow_mut().take();
    let parts = server.into_parts();
    let mut guard = parts.io.into_inner();
    match tunnel {
        // On its own: within, each connection would have room for a tunnel, which is four fifths of what this future would be then.
        Some(tunnel) if ended_well => Box::pin(tunnel.run(guard.into_tunnel(), parts.read_buf)).await,
        _ if lane.is_cut_short() => guard.reset(),
        // A request that asked for an upgrade and got none leaves the socket open.
        _ => {
            let _ = guard.shutdown().await;
        }
    }
    None
}
