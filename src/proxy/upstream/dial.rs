//! Opening a connection to a backend, and the task that drives it.

use std::{future::poll_fn, io, rc::Rc, sync::Arc};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task::spawn_local,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    super::{
        error::{ProxyError, Reason},
        worker::Worker,
    },
    destination::{Destination, Transport},
    http2,
    lease::{Lease, Link, Upgraded},
    pool::Open,
    socket::{BackendStream, Signs, Socket},
};
use crate::{
    certificate::Offer,
    config::limits::{self, Limits},
};

/// Opens one more connection in the background and puts it into the pool, so that kube-proxy chooses once more.
pub(super) fn warm(worker: &Rc<Worker>, destination: &Destination) {
    let (worker, destination) = (Rc::clone(worker), destination.clone());
    spawn_local(async move {
        let dialled = timeout(worker.settings.limits.connect_timeout, dial(&worker, &destination)).await;
        worker.pools.end_warming(&destination);
        match dialled {
            Ok(Ok(lease)) => lease.give_back(),
            // The next request that finds no idle connection will see for itself.
            Ok(Err(_)) | Err(_) => worker.count(|numbers| numbers.upstream_dial_failures += 1),
        }
    });
}

/// Opens a connection, for as long as the caller waits.
pub(super) async fn dial(worker: &Rc<Worker>, destination: &Destination) -> Result<Lease, ProxyError> {
    if !worker.may_dial() {
        return Err(ProxyError::new(Reason::Overload, "out of upstream connections"));
    }
    worker.count(|numbers| numbers.upstream_dials += 1);
    let open = worker.pools.opening(worker, destination);
    let begun = Instant::now();
    let stream = TcpStream::connect(destination.address).await.map_err(|error| {
        let reason = if is_out_of_files(&error) { Reason::Overload } else { Reason::UpstreamConnect };
        ProxyError::caused(reason, "connecting", error)
    })?;
    let retired = begun.elapsed() > limits::DIAL_SLOW;
    // Whole messages are written at once: waiting for more only delays them.
    let _ = stream.set_nodelay(true);
    let stream = match &destination.transport {
        Transport::Http1 | Transport::H2c => BackendStream::Plain(stream),
        Transport::Tls(..) => Box::pin(secure(stream, &destination.transport)).await?,
    };
    // Whoever has to speak HTTP/2 over TLS may be too old to say so in the handshake.
    let multiplexes = matches!(destination.transport, Transport::H2c | Transport::Tls(_, Offer::Http2)) || stream.has_chosen_http2();
    let (socket, signs) = Socket::new(stream);
    if multiplexes {
        Box::pin(http2::begin(worker, destination, socket, &signs, open, retired)).await
    } else {
        http1(worker, destination, socket, signs, open, retired).await
    }
}

/// Makes a handshake.
async fn secure(stream: TcpStream, transport: &Transport) -> Result<BackendStream, ProxyError> {
    let Transport::Tls(tls, offer) = transport else { return Ok(BackendStream::Plain(stream)) };
    let failed = |error: io::Error| ProxyError::caused(Reason::UpstreamConnect, "the backend's TLS handshake", error);
    // Found to be one when the configuration was read.
    let name = ServerName::try_from(tls.server_name.to_string()).map_err(io::Error::other).map_err(failed)?;
    let connector = TlsConnector::from(Arc::clone(tls.trust.config(*offer)));
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    Ok(BackendStream::Tls(Box::new(stream)))
}

async fn http1(
    worker: &Rc<Worker>,
    destination: &Destination,
    socket: Socket,
    signs: Rc<Signs>,
    open: Open,
    retired: bool,
) -> Result<Lease, ProxyError> {
    let epoch = open.epoch();
    let (sender, connection) = http1_builder(&worker.settings.limits)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| ProxyError::caused(Reason::UpstreamConnect, "connecting", error))?;
    let (switched, upgraded) = oneshot::channel();
    let address = destination.address;
    let driver = spawn_local(async move {
        // Moved in here, so that the connection is struck off the books when the task ends, also when it is aborted.
        let open = open;
        let mut connection = connection;
        if let Err(error) = poll_fn(|cx| connection.poll_without_shutdown(cx)).await {
            tracing::debug!(%address, error = &error as &dyn std::error::Error, "upstream connection ended");
        }
        let parts = connection.into_parts();
        // Nobody waits for it unless the response switched protocols: then the socket closes here.
        let _ = switched.send(Upgraded { stream: parts.io.into_inner().switched(), read: parts.read_buf, open });
    });
    let link = Link {
        sender,
        destination: destination.clone(),
        expires: expiry(worker),
        epoch,
        retired,
        carried: 0,
        driver: driver.abort_handle(),
        signs,
        upgraded,
    };
    worker.pools.dialled(destination, Some(false));
    Ok(Lease::new(link, worker, false))
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut client = http1::Builder::new();
    client.max_buf_size(limits.response_head_bytes.max(limits::CLIENT_BUFFER_BYTES)).max_header_size(limits.response_head_bytes);
    if limits.response_header_count != limits::RESPONSE_HEADER_COUNT {
        // Any number but its own costs the client an allocation for each response.
        client.max_headers(limits.response_header_count);
    }
    client
}

/// Less up to a fifth, so that connections opened together don't end together.
pub(super) fn expiry(worker: &Worker) -> Instant {
    let age = worker.settings.limits.pool_max_age.mul_f64(1.0 - 0.2 * worker.random.borrow_mut().f64());
    worker.deadlines.now() + age
}

/// EMFILE and ENFILE: the next dial to another address would fail as well.
fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| code == Errno::MFILE.raw_os_error() || code == Errno::NFILE.raw_os_error())
}
