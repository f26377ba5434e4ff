//! Tunnels: after a `101 Switching Protocols`, bytes pass in both directions as they come, until one side has closed and the other has seen it.

use std::{future::poll_fn, io, rc::Rc};

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};

use super::{
    exchange::Exchange,
    guard::Guard,
    upstream::{Lease, Upgraded},
    worker::Worker,
};
use crate::config::limits::TUNNEL_BUFFER_BYTES;

/// What a connection becomes when its server has switched protocols.
pub(crate) struct Tunnel {
    lease: Lease,
    exchange: Exchange,
}

impl Tunnel {
    pub(crate) fn new(lease: Lease, exchange: Exchange) -> Self {
        Self { lease, exchange }
    }

    /// Runs until both sides have closed, or neither has sent anything for the tunnel's idle timeout. `read` came from the client already.
    pub(crate) async fn run(self, mut client: Guard, read: Bytes) {
        let Self { lease, mut exchange } = self;
        let Some(Upgraded { mut stream, read: answered, open: _counted }) = lease.upgraded().await else { return };
        let open = OpenTunnel::of(&exchange);
        let connection = Rc::clone(exchange.connection());
        let copied = async {
            stream.write_all(&read).await?;
            client.write_all(&answered).await?;
            copy_bidirectional_with_sizes(&mut client, &mut stream, TUNNEL_BUFFER_BYTES, TUNNEL_BUFFER_BYTES).await
        };
        // A direction that has ended, or is stuck, is polled no more: only from here can both be ended.
        let copied = tokio::select! {
            biased;
            copied = copied => copied,
            () = poll_fn(|cx| connection.poll_late(cx)) => {
                connection.worker().count(|numbers| numbers.tunnel_timeouts += 1);
                Err(io::ErrorKind::TimedOut.into())
            }
        };
        drop(open);
        if let Err(error) = copied {
            tracing::debug!(%error, "tunnel ended");
        }
        (exchange.bytes_in, exchange.bytes_out) = client.moved();
    }
}

/// A tunnel in the worker's numbers, for as long as it lives.
struct OpenTunnel(Rc<Worker>);

impl OpenTunnel {
    fn of(exchange: &Exchange) -> Self {
        let worker = Rc::clone(exchange.connection().worker());
        worker.count(|numbers| numbers.tunnels_open += 1);
        Self(worker)
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.count(|numbers| numbers.tunnels_open -= 1);
    }
}
