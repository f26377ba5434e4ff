//! Tunnels: after a `101 Switching Protocols`, bytes pass in both directions as they come, until one side has closed and the other has seen it.

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};

use super::{exchange::Exchange, guard::Guard, upstream::Lease};
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
        let Some(mut backend) = lease.upgraded().await else { return };
        let open = OpenTunnel::of(&exchange);
        let copied = async {
            backend.stream.write_all(&read).await?;
            client.write_all(&backend.read).await?;
            copy_bidirectional_with_sizes(&mut client, &mut backend.stream, TUNNEL_BUFFER_BYTES, TUNNEL_BUFFER_BYTES).await
        }
        .await;
        drop(open);
        if let Err(error) = copied {
            tracing::debug!(%error, "tunnel ended");
        }
        (exchange.bytes_in, exchange.bytes_out) = client.moved();
    }
}

/// A tunnel in the worker's numbers, for as long as it lives.
struct OpenTunnel(std::rc::Rc<super::worker::Worker>);

impl OpenTunnel {
    fn of(exchange: &Exchange) -> Self {
        let worker = std::rc::Rc::clone(exchange.connection().worker());
        worker.count(|numbers| numbers.tunnels_open += 1);
        Self(worker)
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.count(|numbers| numbers.tunnels_open -= 1);
    }
}
