//! A backend that speaks HTTP/2, with TLS or without, and HTTP/1.1 over TLS: it tells what it was asked, and gives back what it was sent.

use std::{
    collections::HashSet,
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{Barrier, Notify},
};
use tokio_rustls::TlsAcceptor;

use super::Issued;

/// What it has seen, and what it does.
pub struct Http2Backend {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

/// Bytes of `/big`.
pub const BIG: usize = 4 << 20;

/// How many requests for `/together` are answered together.
pub const TOGETHER: usize = 40;

struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Connections, by number, that a request came on.
    used: Mutex<HashSet<usize>>,
    /// Server names that were asked for.
    names: Mutex<Vec<Option<String>>>,
    refuse: AtomicUsize,
    stopped: AtomicUsize,
    leave: Notify,
    cut: Notify,
    together: Barrier,
}

impl Http2Backend {
    /// Without TLS, allowing so many requests at a time.
    pub fn plain(streams: u32) -> Self {
        Self::start(None, streams)
    }

    /// Behind a handshake with this certificate, in which it offers these versions of HTTP.
    pub fn secure(issued: &Issued, offers: &[&str]) -> Self {
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let builder =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(vec![issued.der.clone()], key).unwrap();
        config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::start(Some(TlsAcceptor::from(Arc::new(config))), 100)
    }

    fn start(tls: Option<TlsAcceptor>, streams: u32) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen {
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            used: Mutex::default(),
            names: Mutex::default(),
            refuse: AtomicUsize::new(0),
            stopped: AtomicUsize::new(0),
            leave: Notify::new(),
            cut: Notify::new(),
            together: Barrier::new(TOGETHER),
        });
        let told = Arc::clone(&seen);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let number = told.connections.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(serve(stream, tls.clone(), number, streams, Arc::clone(&told)));
                }
            });
        });
        Self { address, seen }
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Connections that a request came on.
    pub fn used(&self) -> usize {
        self.seen.used.lock().unwrap().len()
    }

    pub fn names(&self) -> Vec<Option<String>> {
        self.seen.names.lock().unwrap().clone()
    }

    /// Uploads to `/early` that have stopped, and requests for `/lazy` that were given up.
    pub fn stopped(&self) -> usize {
        self.seen.stopped.load(Ordering::Relaxed)
    }

    /// So many requests are refused, unread.
    pub fn refuse(&self, count: usize) {
        self.seen.refuse.store(count, Ordering::Relaxed);
    }

    /// The response to `/cut` goes no further.
    pub fn cut(&self) {
        self.seen.cut.notify_one();
    }

    /// Each connection is told to go.
    pub fn leave(&self) {
        self.seen.leave.notify_waiters();
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, number: usize, streams: u32, seen: Arc<Seen>) {
    stream.set_nodelay(true).unwrap();
    let Some(tls) = tls else { return serve_http2(stream, number, streams, seen).await };
    // Whoever doesn't believe us is gone.
    let Ok(secured) = tls.accept(stream).await else { return };
    let (_, session) = secured.get_ref();
    seen.names.lock().unwrap().push(session.server_name().map(ToOwned::to_owned));
    if session.alpn_protocol() == Some(b"h2") {
        serve_http2(secured, number, streams, seen).await;
    } else {
        serve_http1(secured, number, seen).await;
    }
}

async fn serve_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, number: usize, seen: Arc<Seen>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        seen.used.lock().unwrap().insert(number);
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        if text.contains(" /silent ") {
            while stream.read_u8().await.is_ok() {}
            return;
        }
        if text.starts_with("POST ") {
            // Answered before it is read, and closed.
            stream.write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\nno!").await.unwrap();
            return stream.shutdown().await.unwrap();
        }
        if text.contains("upgrade: websocket") {
            stream.write_all(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            return stream.write_all(&word).await.unwrap();
        }
        let target = text.split(' ').nth(1).unwrap().to_owned();
        let answer = format!("HTTP/1.1 200 OK\r\nX-Version: 1.1\r\nX-Path: {target}\r\nContent-Length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin, number: usize, streams: u32, seen: Arc<Seen>) {
    let mut builder = h2::server::Builder::new();
    let Ok(mut connection) = builder.max_concurrent_streams(streams).handshake(stream).await else { return };
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = seen.leave.notified() => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        seen.used.lock().unwrap().insert(number);
        tokio::spawn(answer(request, respond, Arc::clone(&seen)));
    }
}

/// A response with this body, or one that goes on.
fn give(respond: &mut SendResponse<Bytes>, body: Vec<u8>, whole: bool) {
    let Ok(mut sending) = respond.send_response(Response::new(()), false) else { return };
    sending.send_data(body.into(), whole).unwrap();
    if !whole {
        // Dropped, it would end.
        std::mem::forget(sending);
    }
}

/// `/together` is answered once there are [`TOGETHER`] such requests, `/reset` not at all.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, seen: Arc<Seen>) {
    if seen.refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    seen.requests.fetch_add(1, Ordering::Relaxed);
    let (head, mut body) = request.into_parts();
    match head.uri.path() {
        "/together" => {
            seen.together.wait().await;
        }
        "/reset" => return respond.send_reset(Reason::INTERNAL_ERROR),
        "/big" => return give(&mut respond, vec![7; BIG], true),
        "/early" => {
            give(&mut respond, b"no!".to_vec(), true);
            // Until nobody sends any more of it.
            while let Some(Ok(_)) = body.data().await {}
            seen.stopped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        "/lazy" => {
            let Ok(mut sending) = respond.send_response(Response::new(()), false) else { return };
            sending.send_data(Bytes::from("part"), false).unwrap();
            // Nothing of the body is read, for as long as there is a client.
            let _ = poll_fn(|cx| sending.poll_reset(cx)).await;
            seen.stopped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        "/empty-end" => {
            let Ok(mut sending) = respond.send_response(Response::new(()), false) else { return };
            sending.send_data(Bytes::from("all"), false).unwrap();
            return sending.send_data(Bytes::new(), true).unwrap();
        }
        "/cut" => {
            give(&mut respond, b"part".to_vec(), false);
            seen.cut.notified().await;
            return respond.send_reset(Reason::NO_ERROR);
        }
        _ => {}
    }
    let mut response = Response::new(());
    let text = |text: &str| HeaderValue::from_str(text).unwrap();
    let told = response.headers_mut();
    told.insert("x-version", text("2"));
    told.insert("x-method", text(head.method.as_str()));
    told.insert("x-scheme", text(head.uri.scheme_str().unwrap()));
    told.insert("x-authority", text(head.uri.authority().unwrap().as_str()));
    told.insert("x-path", text(head.uri.path_and_query().unwrap().as_str()));
    told.insert("x-names", text(&head.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>().join(" ")));
    told.insert("trailer", text("grpc-status"));
    let Ok(mut sending) = respond.send_response(response, false) else { return };
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        sending.send_data(data, false).unwrap();
    }
    let mut trailers: HeaderMap = body.trailers().await.ok().flatten().unwrap_or_default();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // Whoever has asked may be gone.
    let _ = sending.send_trailers(trailers);
}
