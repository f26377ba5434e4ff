//! One stream of an HTTP/2 connection: its request goes to the handler, and what comes of it to the client, as fast as that takes it.

use std::{cell::RefCell, future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{
    Method, Request, Response, StatusCode,
    header::{DATE, EXPECT, SEC_WEBSOCKET_ACCEPT, UPGRADE},
};
use http_body::Body as _;

use super::{
    super::{
        body::{
            Receiving, ResponseBody,
            sending::{self, Outlet},
        },
        connection::Lane,
        handler,
    },
    shared::Shared,
    tunnel::Duplex,
    window::Upload,
};
use crate::message;

/// Serves one request, from its head to the end of its response.
pub(super) async fn serve(
    shared: Rc<Shared>,
    lane: Rc<Lane>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    _upload: Option<Upload>,
) {
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
    let begun = respond.borrow_mut().send_response(Response::from_parts(head, ()), ends);
    let mut client = match begun {
        Ok(sending) => Client { sending, lane, shared, waited: Duration::ZERO, sent: 0 },
        // The client is gone.
        Err(error) => return tracing::debug!(%error, "can't send a response"),
    };
    let sent = if ends { Ok(()) } else { sending::send(&mut client, body).await };
    match sent {
        Ok(()) => client.shared.earn_reset(),
        Err(reason) => client.sending.send_reset(reason),
    }
}

fn with_body(request: Request<RecvStream>, respond: &Rc<RefCell<SendResponse<Bytes>>>) -> Request<Receiving> {
    let (head, stream) = request.into_parts();
    let waits = head.headers.contains_key(EXPECT);
    let body = Receiving::new(stream, &head.headers, waits.then(|| Rc::clone(respond)));
    Request::from_parts(head, body)
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

impl Outlet for Client {
    const BROKEN_OFF: Reason = Reason::INTERNAL_ERROR;

    fn stream(&mut self) -> &mut SendStream<Bytes> {
        &mut self.sending
    }

    fn sends(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.shared.earn_pieces(bytes);
    }

    /// It is waited for, if it makes some room in time.
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
