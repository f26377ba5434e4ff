//! HTTP/2 to clients: one connection, driven until it ends, and a task for each of its streams. What a request means is not decided here.

mod frames;
mod guard;
mod shared;
mod stream;
mod tunnel;
mod window;

use std::{future::poll_fn, rc::Rc, task::Poll};

use bytes::Bytes;
use h2::{Reason, server};
use tokio::{task::spawn_local, time::Instant};

pub(super) use self::window::Windows;
use self::{
    guard::FrameGuard,
    shared::Shared,
    window::{Upload, Window},
};
use super::{
    connection::{Connection, Lane, Timing},
    stream::Stream,
};
use crate::config::limits::{self, Limits};

/// Runs a connection whose first words are HTTP/2's, or ought to be.
pub(super) async fn serve(connection: Rc<Connection>, stream: Stream) {
    let shared = Shared::new(connection);
    let Ok(guard) = FrameGuard::new(stream, Rc::clone(&shared)).preface().await else { return };
    let peer = shared.connection.peer();
    let result = match builder(&shared.connection.worker().settings.limits).handshake(guard).await {
        // On its own: what goes before has no need of the room.
        Ok(server) => Box::pin(drive(server, &shared)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
    }
}

fn builder(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.request_head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(Some(limits::HTTP2_STREAM_ERRORS))
        .max_concurrent_reset_streams(limits::HTTP2_REMEMBERED_RESETS)
        .reset_stream_duration(limits::HTTP2_REMEMBERED)
        .data_frame_budget(limits::HTTP2_SMALL_FRAMES_BYTES)
        .enable_connect_protocol();
    builder
}

/// How far the end of a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client knows that it is to send no new requests (RFC 9113 section 6.8); those that are under way are finished.
    Leaving,
    /// The last words are on their way.
    Closing,
}

async fn drive(mut server: server::Connection<FrameGuard, Bytes>, shared: &Rc<Shared>) -> Result<(), h2::Error> {
    let connection = &shared.connection;
    let mut stage = Stage::Open;
    let mut left: Option<Instant> = None;
    let mut window = Window::new(shared);
    poll_fn(|cx| {
        connection.remember_waker(cx.waker());
        loop {
            match server.poll_accept(cx) {
                // It has had time enough to hear that no more are wanted.
                Poll::Ready(Some(Ok((_, mut respond)))) if left.is_some_and(|at| at.elapsed() > limits::HTTP2_FAREWELL) => {
                    respond.send_reset(Reason::REFUSED_STREAM);
                    continue;
                }
                Poll::Ready(Some(Ok((mut request, respond)))) => {
                    let lane = Lane::http2(Rc::clone(connection));
                    let upload = (!request.body().is_end_stream()).then(|| Upload::begin(shared, request.body_mut()));
                    spawn_local(stream::serve(Rc::clone(shared), lane, request, respond, upload));
                    if connection.is_last_request() {
                        connection.leave();
                    }
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            if let Some(reason) = end(shared, stage) {
                stage = reason.apply(&mut server, shared);
                left.get_or_insert_with(Instant::now);
                continue;
            }
            window.fit(&mut server);
            expect(connection, stage);
            if connection.poll_late(cx).is_pending() {
                return Poll::Pending;
            }
            late(shared, stage);
        }
    })
    .await
}

/// Why a connection comes to its next stage.
enum End {
    /// All is said after the requests that are under way.
    Gracefully,
    Now(Reason),
}

/// Whether it is time for the next stage.
fn end(shared: &Shared, stage: Stage) -> Option<End> {
    match stage {
        Stage::Open | Stage::Leaving if shared.fault().is_some() => shared.fault().map(End::Now),
        Stage::Open if shared.connection.is_leaving() => Some(End::Gracefully),
        Stage::Open | Stage::Leaving | Stage::Closing => None,
    }
}

impl End {
    fn apply(self, server: &mut server::Connection<FrameGuard, Bytes>, shared: &Shared) -> Stage {
        match self {
            Self::Gracefully => {
                server.graceful_shutdown();
                Stage::Leaving
            }
            Self::Now(reason) => {
                shared.close();
                server.abrupt_shutdown(reason);
                Stage::Closing
            }
        }
    }
}

/// Starts the clock for what is expected of the client now.
fn expect(connection: &Connection, stage: Stage) {
    connection.time(match stage {
        Stage::Closing => Timing::Nothing,
        Stage::Open | Stage::Leaving if connection.is_mid_head() => Timing::Head,
        // Each request has clocks of its own.
        Stage::Open | Stage::Leaving if connection.is_answering() => Timing::Nothing,
        // What was answered is on its way, for which there is a clock, too.
        Stage::Leaving if connection.is_unflushed() => Timing::Nothing,
        Stage::Open => Timing::Idle,
        Stage::Leaving => Timing::Farewell,
    });
}

/// What was expected hasn't come.
fn late(shared: &Shared, stage: Stage) {
    let connection = &shared.connection;
    if connection.is_mid_head() {
        connection.worker().count(|numbers| numbers.request_timeouts += 1);
        shared.fail(Reason::PROTOCOL_ERROR);
    } else if stage == Stage::Open {
        connection.worker().count(|numbers| numbers.keep_alive_timeouts += 1);
        connection.leave();
    } else {
        // It has had its time to answer.
        shared.fail(Reason::NO_ERROR);
    }
}
