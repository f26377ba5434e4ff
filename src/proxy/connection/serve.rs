//! The task that runs one client connection: guard, HTTP server, and what comes after them.

use std::{future::poll_fn, pin::Pin, rc::Rc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    super::{error::Reason, guard::Guard, handler},
    Connection,
};
use crate::config::limits;

/// Runs a connection to its end.
pub(crate) async fn serve(connection: Rc<Connection>, stream: TcpStream) {
    let guard = Guard::new(stream, Rc::clone(&connection));
    let service = service_fn(|request| handler::handle(Rc::clone(&connection), request));
    let limits = &connection.worker.settings.limits;
    let mut builder = http1::Builder::new();
    // The guard keeps the deadlines; without a timer the builder's own would be off silently.
    builder.keep_alive(true).half_close(false).header_read_timeout(None);
    builder.max_buf_size(limits.request_head_bytes.max(limits::SERVER_BUFFER_BYTES));
    if limits.request_header_count != limits::REQUEST_HEADER_COUNT {
        // Any number but its own costs the server an allocation for each request.
        builder.max_headers(limits.request_header_count);
    }
    let mut server = builder.serve_connection(TokioIo::new(guard), service);
    let mut leaving = false;
    let result = poll_fn(|cx| {
        connection.remember_waker(cx.waker());
        let result = Pin::new(&mut server).poll(cx);
        // A connection that has begun a head, or has still to write, is let finish; every other one closes as soon as it has no request.
        if result.is_pending() && !leaving && connection.is_leaving() && connection.may_end() {
            leaving = true;
            Pin::new(&mut server).graceful_shutdown();
            return Pin::new(&mut server).poll(cx);
        }
        result
    })
    .await;
    let ended_well = result.is_ok();
    if let Err(error) = result {
        if error.is_parse() {
            // The guard let pass what the server doesn't understand, and it has answered by itself.
            connection.record_refusal(Reason::BadRequest);
        }
        tracing::debug!(peer = %connection.peer, error = &error as &dyn std::error::Error, "connection ended");
    }
    let tunnel = connection.tunnel.borrow_mut().take();
    let parts = server.into_parts();
    let mut guard = parts.io.into_inner();
    match tunnel {
        Some(tunnel) if ended_well => tunnel.run(guard.into_tunnel(), parts.read_buf).await,
        _ if connection.cut_short.get() => guard.reset(),
        // A request that asked for an upgrade and got none leaves the socket open.
        _ => {
            let _ = guard.shutdown().await;
        }
    }
}
