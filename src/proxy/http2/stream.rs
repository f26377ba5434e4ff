//! One stream of an HTTP/2 connection: its request goes to the handler, and what comes of it to the client, as fast as that takes it.

use std::{cell::RefCell, future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, DATE, EXPECT, SEC_WEBSOCKET_ACCEPT, UPGRADE},
};
use http_body::Body as _;

use super::{
    super::{
        body::{Receiving, ResponseBody},
        connection::Lane,
        handler,
    },
    shared::Shared,
    tunnel::Duplex,
};
use crate::message;

/// Serves one request, from its head to the end of its response.
pub(super) async fn serve(shared: Rc<Shared>, lane: Rc<Lane>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let respond = Rc::new(RefCell::new(respond));
    let is_head = request.method() == Method::HEAD;
    let handling = handler::handle_http2(Rc::clone(&lane), with_body(request, &respond));
    let Some(mut response) = until_reset(handling, &respond).await else { return };
    response.headers_mut().entry(DATE).or_insert_with(|| lane.worker().date());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return tunnel(&shared, lane, &respond, response).await;
    }
    let (mut head, body) = response.into_parts();
    message::detach(&mut head.headers);
    // The answer to HEAD has the fields of a body, and none.
    let ends = is_head || body.is_end_stream();
    let sending = respond.borrow_mut().send_response(Response::from_parts(head, ()), ends);
    let mut client = match sending {
        Ok(sending) => Client { sending, lane, shared, waited: Duration::ZERO, sent: 0 },
        // The client is gone.
        Err(error) => return tracing::debug!(%error, "can't send a response"),
    };
    if ends {
        client.shared.earn_reset();
    } else if let Err(reason) = client.send(body).await {
        client.sending.send_reset(reason);
    }
}

fn with_body(request: Request<RecvStream>, respond: &Rc<RefCell<SendResponse<Bytes>>>) -> Request<Receiving> {
    let (head, stream) = request.into_parts();
    let waits = head.headers.contains_key(EXPECT);
    let body = Receiving::new(stream, length(&head.headers), waits.then(|| Rc::clone(respond)));
    Request::from_parts(head, body)
}

/// What the client says that it is going to send. The server has seen to it that all of them agree, and that they are numbers.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

/// What comes of a request, unless its client gives it up before.
async fn until_reset<T>(handling: impl Future<Output = T>, respond: &RefCell<SendResponse<Bytes>>) -> Option<T> {
    let mut handling = pin!(handling);
    poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        respond.borrow_mut().poll_reset(cx).map(|_| None)
    })
    .await
}

/// The backend has agreed to a tunnel (RFC 8441 section 5): from here on the stream is one.
async fn tunnel(shared: &Rc<Shared>, lane: Rc<Lane>, respond: &RefCell<SendResponse<Bytes>>, mut response: Response<ResponseBody>) {
    *response.status_mut() = StatusCode::OK;
    for name in [UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        response.headers_mut().remove(name);
    }
    message::detach(response.headers_mut());
    let parts = lane.tunnel.take().zip(lane.websocket.take());
    let sending = respond.borrow_mut().send_response(response.map(drop), false);
    if let (Some((tunnel, websocket)), Ok(sending)) = (parts, sending) {
        let sending = Rc::new(RefCell::new(sending));
        let duplex = Duplex::new(websocket.receiving, Rc::clone(&sending), shared);
        tokio::select! {
            biased;
            () = Box::pin(tunnel.run(duplex, Bytes::new())) => {}
            // A direction that has ended, or is stuck, wouldn't hear of it.
            _ = poll_fn(|cx| sending.borrow_mut().poll_reset(cx)) => {}
        }
        shared.earn_reset();
    }
}

/// The client's end of a response.
struct Client {
    sending: SendStream<Bytes>,
    lane: Rc<Lane>,
    shared: Rc<Shared>,
    /// How long the client has kept us waiting, and for how many bytes.
    waited: Duration,
    sent: u64,
}

impl Client {
    /// Sends a whole body. The error is what to reset the stream with.
    async fn send(&mut self, body: ResponseBody) -> Result<(), Reason> {
        let mut body = pin!(body);
        loop {
            // One piece is taken from the backend before there is room for it: the end may come next, and needs none.
            let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => self.sending.poll_reset(cx).map(|_| Err(Reason::CANCEL)),
            });
            let Some(frame) = frame.await? else {
                self.send_piece(Bytes::new(), true)?;
                break;
            };
            let frame = frame.map_err(|_| Reason::INTERNAL_ERROR)?;
            match frame.into_data() {
                Ok(data) => {
                    let is_last = body.is_end_stream();
                    self.send_data(data, is_last).await?;
                    if is_last {
                        break;
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.sending.send_trailers(trailers).map_err(|_| Reason::CANCEL)?;
                    break;
                }
            }
        }
        self.shared.earn_reset();
        Ok(())
    }

    async fn send_data(&mut self, mut data: Bytes, is_last: bool) -> Result<(), Reason> {
        if data.is_empty() && is_last {
            return self.send_piece(data, true);
        }
        while !data.is_empty() {
            let room = self.room(data.len()).await?;
            let piece = data.split_to(room.min(data.len()));
            self.send_piece(piece, is_last && data.is_empty())?;
        }
        Ok(())
    }

    fn send_piece(&mut self, piece: Bytes, is_last: bool) -> Result<(), Reason> {
        self.sent += piece.len() as u64;
        self.shared.earn_pieces(piece.len());
        self.sending.send_data(piece, is_last).map_err(|_| Reason::CANCEL)
    }

    /// How many of `wanted` bytes the client has room for; it is waited for, if it makes some.
    async fn room(&mut self, wanted: usize) -> Result<usize, Reason> {
        self.sending.reserve_capacity(wanted);
        let room = self.sending.capacity();
        if room > 0 {
            return Ok(room);
        }
        let worker = Rc::clone(self.lane.worker());
        let (limits, begun) = (&worker.settings.limits, worker.deadlines.now());
        self.lane.waiting.arm(limits.write_stall_timeout);
        let room = poll_fn(|cx| {
            loop {
                match self.sending.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(0))) => {}
                    Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Reason::CANCEL)),
                    Poll::Pending => return self.lane.waiting.poll(cx).map(|()| Err(Reason::ENHANCE_YOUR_CALM)),
                }
            }
        })
        .await;
        self.lane.waiting.disarm();
        self.waited += worker.deadlines.now().saturating_duration_since(begun);
        let is_slow = self.waited > limits.body_rate_grace && self.sent / self.waited.as_secs().max(1) < limits.body_min_rate;
        let room = if is_slow { Err(Reason::ENHANCE_YOUR_CALM) } else { room };
        if room == Err(Reason::ENHANCE_YOUR_CALM) {
            worker.count(|numbers| numbers.write_stalls += 1);
        }
        room
    }
}
