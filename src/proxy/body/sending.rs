//! A body on its way into a stream of HTTP/2, to a client or to a backend.

use std::{future::poll_fn, pin::pin, task::Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// Where a body goes.
pub(crate) trait Outlet {
    /// What to reset the stream with when the body breaks off.
    const BROKEN_OFF: Reason;

    fn stream(&mut self) -> &mut SendStream<Bytes>;

    /// How many of `wanted` bytes the other side has room for; waits until it has some. The error is what to reset the stream with.
    async fn room(&mut self, wanted: usize) -> Result<usize, Reason>;

    /// So many bytes are sent now.
    fn sends(&mut self, bytes: usize);
}

/// Sends a whole body. The error is what to reset the stream with.
pub(crate) async fn send<O: Outlet>(outlet: &mut O, body: impl Body<Data = Bytes>) -> Result<(), Reason> {
    let mut body = pin!(body);
    loop {
        // One piece is taken before there is room for it: the end may come next, and needs none.
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => outlet.stream().poll_reset(cx).map(|_| Err(Reason::CANCEL)),
        });
        let Some(frame) = frame.await? else { return send_piece(outlet, Bytes::new(), true) };
        match frame.map_err(|_| O::BROKEN_OFF)?.into_data() {
            Ok(data) => {
                let is_last = body.is_end_stream();
                send_data(outlet, data, is_last).await?;
                if is_last {
                    return Ok(());
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return outlet.stream().send_trailers(trailers).map_err(|_| Reason::CANCEL);
            }
        }
    }
}

async fn send_data(outlet: &mut impl Outlet, mut data: Bytes, is_last: bool) -> Result<(), Reason> {
    if data.is_empty() && is_last {
        return send_piece(outlet, data, true);
    }
    while !data.is_empty() {
        let room = outlet.room(data.len()).await?;
        let piece = data.split_to(room.min(data.len()));
        send_piece(outlet, piece, is_last && data.is_empty())?;
    }
    Ok(())
}

fn send_piece(outlet: &mut impl Outlet, piece: Bytes, is_last: bool) -> Result<(), Reason> {
    outlet.sends(piece.len());
    outlet.stream().send_data(piece, is_last).map_err(|_| Reason::CANCEL)
}
