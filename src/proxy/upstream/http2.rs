//! HTTP/2 to backends: connections that carry several requests at a time, each with a task that sends its body.

use std::{cell::Cell, future::poll_fn, pin::Pin, rc::Rc};

use bytes::Bytes;
use h2::{Reason, SendStream, client::Builder};
use http::{Request, Response};
use http_body::Body as _;
use tokio::task::{AbortHandle, spawn_local};

use super::{
    super::{
        body::{
            ArrivingBody, Receiving, RequestBody,
            sending::{self, Outlet},
        },
        error::{self, ProxyError},
        worker::Worker,
    },
    broken::Broken,
    destination::Destination,
    dial::expiry,
    lease::Lease,
    pool::{Open, Opened, Place},
    socket::{Signs, Socket},
    translate,
};
use crate::config::limits::{self, Limits};

/// Begins a connection on a socket, keeps it for others, and returns a place on it.
pub(super) async fn begin(
    worker: &Rc<Worker>,
    destination: &Destination,
    socket: Socket,
    signs: &Signs,
    open: Open,
    retired: bool,
) -> Result<Lease, ProxyError> {
    // Whoever speaks HTTP/2 reads what comes, whatever becomes of a request.
    signs.acknowledged_within.set(Some(limits::HTTP2_ACKNOWLEDGED_WITHIN));
    let (sender, connection) = builder(&worker.settings.limits)
        .handshake(socket)
        .await
        .map_err(|error| ProxyError::caused(error::Reason::UpstreamConnect, "beginning HTTP/2", error))?;
    let allowed = Rc::new(Cell::new(0));
    let (told, changed) = (Rc::clone(&allowed), worker.pools.changes(destination));
    let (epoch, address) = (open.epoch(), destination.address);
    let driver = spawn_local(async move {
        // Moved in here, so that the connection is struck off the books when the task ends, also when it is aborted.
        let _open = open;
        let mut connection = connection;
        let ended = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            let allowed = connection.max_concurrent_send_streams();
            if told.replace(allowed) != allowed || polled.is_ready() {
                changed.notify_waiters();
            }
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%address, error = &error as &dyn std::error::Error, "upstream connection ended");
        }
    });
    let opened = Opened {
        destination: destination.clone(),
        sender,
        expires: expiry(worker),
        epoch,
        retired,
        allowed,
        driver: driver.abort_handle(),
    };
    let place = worker.pools.share(opened, worker.deadlines.now());
    worker.pools.dialled(destination, Some(true));
    Ok(Lease::on(place, worker))
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(limits::UPSTREAM_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::UPSTREAM_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER_BYTES)
        // Of many requests that are given up at once, none costs the others their connection.
        .max_concurrent_reset_streams(limits::HTTP2_REMEMBERED_RESETS)
        .reset_stream_duration(limits::HTTP2_REMEMBERED)
        .max_local_error_reset_streams(None)
        // Until the backend has said how many it allows: those beyond would be refused.
        .initial_max_send_streams(0)
        .max_header_list_size(u32::try_from(limits.response_head_bytes).unwrap_or(u32::MAX));
    builder
}

impl Place {
    /// Sends a request, and waits for the head of its response. What sends its body ends with this place.
    pub(super) async fn send(&mut self, mut request: Request<RequestBody>) -> Result<Response<ArrivingBody>, Broken> {
        let mut sender = self.connection.sender.clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            return Err(Broken::unsent(error, request));
        }
        translate::to_http2(&mut request, &self.connection.destination);
        let (head, body) = request.into_parts();
        let ends = body.is_end_stream();
        let begun = sender.send_request(Request::from_parts(head, ()), ends);
        let (response, stream) = begun.map_err(Broken::from)?;
        if !ends {
            self.upload = Some(upload(stream, body));
        }
        let (head, stream) = response.await.map_err(Broken::from)?.into_parts();
        let body = ArrivingBody::Http2(Receiving::new(stream, &head.headers, None));
        Ok(Response::from_parts(head, body))
    }
}

/// Sends a body in a task of its own. It has no clock: whoever holds the place has one, for the response.
fn upload(sending: SendStream<Bytes>, body: RequestBody) -> AbortHandle {
    let task = spawn_local(async move {
        let mut upload = Upload(sending);
        if let Err(reason) = sending::send(&mut upload, body).await {
            upload.0.send_reset(reason);
        }
    });
    task.abort_handle()
}

/// The backend's end of a request.
struct Upload(SendStream<Bytes>);

impl Outlet for Upload {
    const BROKEN_OFF: Reason = Reason::CANCEL;

    fn stream(&mut self) -> &mut SendStream<Bytes> {
        &mut self.0
    }

    async fn room(&mut self, wanted: usize) -> Result<usize, Reason> {
        self.0.reserve_capacity(wanted);
        while self.0.capacity() == 0 {
            match poll_fn(|cx| self.0.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Reason::CANCEL),
            }
        }
        Ok(self.0.capacity())
    }

    fn sends(&mut self, _: usize) {}
}
