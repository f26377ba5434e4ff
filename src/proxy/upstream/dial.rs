//! Connections to backends: opening one, what a request holds of it, and the task that drives it.

use std::{future::poll_fn, io, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task::{AbortHandle, spawn_local},
    time::Instant,
};

use super::{
    super::{
        body::RequestBody,
        error::{ProxyError, Reason},
        worker::Worker,
    },
    pool::Open,
    socket::{Signs, Socket},
};
use crate::config::limits;

/// A backend connection that one request holds. Dropped, it is closed; only [`Lease::give_back`] keeps it.
pub(crate) struct Lease {
    link: Link,
    worker: Rc<Worker>,
    reused: bool,
}

/// A backend connection, in use or idle.
pub(super) struct Link {
    sender: http1::SendRequest<RequestBody>,
    pub(super) address: SocketAddr,
    /// After this moment it isn't reused.
    pub(super) expires: Instant,
    /// The pool's epoch when it was dialled.
    pub(super) epoch: u64,
    /// Not to be reused, however well it does.
    retired: bool,
    /// Requests that it has been given.
    pub(super) carried: u32,
    driver: AbortHandle,
    signs: Rc<Signs>,
    upgraded: oneshot::Receiver<Upgraded>,
}

/// The socket of a connection that has switched protocols, and what was read of it already.
pub(crate) struct Upgraded {
    pub(crate) stream: TcpStream,
    pub(crate) read: Bytes,
    /// It counts as a connection to its backend as long as it lives.
    pub(crate) open: Open,
}

impl Lease {
    pub(super) fn new(link: Link, worker: &Rc<Worker>, reused: bool) -> Self {
        Self { link, worker: Rc::clone(worker), reused }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.link.address
    }

    /// Whether the connection has carried a request before: then it may have died in the meantime.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> {
        self.link.signs.heard.set(false);
        let short = request.body().size_hint().exact().is_some_and(|length| length <= limits::ACKNOWLEDGED_BODY_BYTES);
        let connect_timeout = self.worker.settings.limits.connect_timeout;
        // The rest is for dialling anew.
        let within = connect_timeout / limits::REDIAL_SHARE * (limits::REDIAL_SHARE - 1);
        self.link.signs.acknowledged_within.set(short.then_some(within));
        self.link.carried = self.link.carried.saturating_add(1);
        self.link.sender.try_send_request(request)
    }

    /// Whether the backend has begun to answer: then it may have acted on the request.
    pub(super) fn has_heard(&self) -> bool {
        self.link.signs.heard.get()
    }

    /// This request is its last.
    pub(super) fn retire(&mut self) {
        self.link.retired = true;
    }

    /// Back to the pool, for the next request; or closed, and replaced by one to whichever pod kube-proxy chooses.
    pub(crate) fn give_back(self) {
        let Self { link, worker, reused: _ } = self;
        if link.carried >= limits::REDRAW_REQUESTS
            && worker.pools.begin_redraw(link.address, worker.deadlines.now(), worker.settings.workers)
        {
            return warm(&worker, link.address);
        }
        worker.pools.put(link, &worker.settings.limits, worker.deadlines.now());
    }

    /// The socket, after a response that switches protocols. `None`: it closed instead.
    pub(crate) async fn upgraded(mut self) -> Option<Upgraded> {
        (&mut self.link.upgraded).await.ok()
    }
}

impl Link {
    pub(super) fn is_usable(&self, now: Instant, epoch: u64) -> bool {
        !self.sender.is_closed() && self.sender.is_ready() && self.is_current(now, epoch)
    }

    /// Neither too old nor opened when other pods were behind the address.
    pub(super) fn is_current(&self, now: Instant, epoch: u64) -> bool {
        now < self.expires && self.epoch == epoch && !self.retired && !self.signs.broken.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens one more connection in the background and puts it into the pool, so that kube-proxy chooses once more.
pub(super) fn warm(worker: &Rc<Worker>, address: SocketAddr) {
    let worker = Rc::clone(worker);
    spawn_local(async move {
        let dialled = tokio::time::timeout(worker.settings.limits.connect_timeout, dial(&worker, address)).await;
        worker.pools.end_warming(address);
        match dialled {
            Ok(Ok(lease)) => lease.give_back(),
            // The next request that finds no idle connection will see for itself.
            Ok(Err(_)) | Err(_) => worker.count(|numbers| numbers.upstream_dial_failures += 1),
        }
    });
}

/// Opens a connection, for as long as the caller waits.
pub(super) async fn dial(worker: &Rc<Worker>, address: SocketAddr) -> Result<Lease, ProxyError> {
    if !worker.may_dial() {
        return Err(ProxyError::new(Reason::Overload, "out of upstream connections"));
    }
    worker.count(|numbers| numbers.upstream_dials += 1);
    let open = worker.pools.opening(worker, address);
    let epoch = open.epoch();
    let begun = Instant::now();
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let reason = if is_out_of_files(&error) { Reason::Overload } else { Reason::UpstreamConnect };
        ProxyError::caused(reason, "connecting", error)
    })?;
    let retired = begun.elapsed() > limits::DIAL_SLOW;
    // Whole messages are written at once: waiting for more only delays them.
    let _ = stream.set_nodelay(true);
    let (stream, signs) = Socket::new(stream);
    let limits = &worker.settings.limits;
    let mut client = http1::Builder::new();
    client.max_buf_size(limits.response_head_bytes.max(limits::CLIENT_BUFFER_BYTES)).max_header_size(limits.response_head_bytes);
    if limits.response_header_count != limits::RESPONSE_HEADER_COUNT {
        // Any number but its own costs the client an allocation for each response.
        client.max_headers(limits.response_header_count);
    }
    let (sender, connection) =
        client.handshake(TokioIo::new(stream)).await.map_err(|error| ProxyError::caused(Reason::UpstreamConnect, "connecting", error))?;
    let (switched, upgraded) = oneshot::channel();
    let driver = spawn_local(async move {
        // Moved in here, so that the connection is struck off the books when the task ends, also when it is aborted.
        let open = open;
        let mut connection = connection;
        if let Err(error) = poll_fn(|cx| connection.poll_without_shutdown(cx)).await {
            tracing::debug!(%address, error = &error as &dyn std::error::Error, "upstream connection ended");
        }
        let parts = connection.into_parts();
        // Nobody waits for it unless the response switched protocols: then the socket closes here.
        let _ = switched.send(Upgraded { stream: parts.io.into_inner().into_inner(), read: parts.read_buf, open });
    });
    let expires = worker.deadlines.now() + with_jitter(worker, limits.pool_max_age);
    let link = Link { sender, address, expires, epoch, retired, carried: 0, driver: driver.abort_handle(), signs, upgraded };
    Ok(Lease::new(link, worker, false))
}

/// Less up to a fifth, so that connections opened together don't end together.
fn with_jitter(worker: &Worker, age: std::time::Duration) -> std::time::Duration {
    age.mul_f64(1.0 - 0.2 * worker.random.borrow_mut().f64())
}

/// EMFILE and ENFILE: the next dial to another address would fail as well.
fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| code == Errno::MFILE.raw_os_error() || code == Errno::NFILE.raw_os_error())
}
