//! A client that speaks HTTP/2 as it should, through the library that proxies use, too.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{Request, Response};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::timeout,
};

use super::{PATIENCE, Wire};

/// A connection, driven by a thread of its own.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
    // Last, so that it outlives what runs on it.
    runtime: Runtime,
}

/// A request that was sent, in part or whole.
pub struct Call {
    pub sending: SendStream<Bytes>,
    pub response: ResponseFuture,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub head: http::response::Parts,
    pub body: Bytes,
}

impl Http2 {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(Wire::connect(address))
    }

    pub fn over(wire: Wire) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stream = wire.into_stream();
        stream.set_nonblocking(true).unwrap();
        let (sender, connection) = runtime.block_on(async {
            let stream = TcpStream::from_std(stream).unwrap();
            timeout(PATIENCE, h2::client::handshake(stream)).await.unwrap().unwrap()
        });
        let ended = runtime.spawn(connection);
        Self { sender, ended, runtime }
    }

    /// Waits, but not for ever.
    #[track_caller]
    pub fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(PATIENCE, what).await }).unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain"))
    }

    /// Sends a head, and whether that is all.
    #[track_caller]
    pub fn begin(&mut self, request: Request<()>, ends: bool) -> Call {
        let mut sender = self.wait(self.sender.clone().ready()).unwrap();
        let (response, sending) = sender.send_request(request, ends).unwrap();
        Call { sending, response }
    }

    /// One request without a body.
    #[track_caller]
    pub fn exchange(&mut self, request: Request<()>) -> Answer {
        let call = self.begin(request, true);
        self.answer(call.response).unwrap()
    }

    #[track_caller]
    pub fn get(&mut self, uri: &str) -> Answer {
        self.exchange(Request::get(uri).body(()).unwrap())
    }

    /// The rest of a response.
    #[track_caller]
    pub fn answer(&self, response: ResponseFuture) -> Result<Answer, h2::Error> {
        self.wait(whole(response))
    }

    /// The rest of several responses, which come together.
    #[track_caller]
    pub fn answers(&self, responses: Vec<ResponseFuture>) -> Vec<Answer> {
        self.wait(join_all(responses.into_iter().map(whole))).into_iter().collect::<Result<_, _>>().unwrap()
    }

    /// The head of a response.
    #[track_caller]
    pub fn head(&self, response: ResponseFuture) -> Result<Response<h2::RecvStream>, h2::Error> {
        self.wait(response)
    }

    /// Waits for the end of the connection.
    #[track_caller]
    pub fn ended(mut self) -> Result<(), h2::Error> {
        drop(self.sender);
        self.runtime.block_on(async { timeout(PATIENCE, &mut self.ended).await }).expect("the connection doesn't end").unwrap()
    }
}

async fn whole(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(Answer { head, body: all.into() })
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn assert_own(&self, status: u16, reason: &str) {
        assert_eq!((self.status(), self.field("x-nodegate-reason")), (status, Some(reason)), "{:?}", self.head);
    }
}
