//! A process that stands by: for as long as another one serves on its node, it waits.

use std::{io, net::SocketAddr};

use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::handover::{self, Inherited};
use crate::config::{Handover, limits};

/// Waits until nobody serves on this node, and returns what there is to start from then. Whoever doesn't stand by (`None`) needn't wait.
pub(super) async fn turn(stands_by: bool, admin: SocketAddr, settings: &Handover) -> Option<Inherited> {
    if !stands_by {
        return None;
    }
    info!(%admin, "standing by: serving once nobody else does on this node");
    loop {
        nobody_listens(admin).await;
        // Somebody may have come in this moment, and begun with the rendezvous: it isn't to be robbed of it.
        if let Ok(inherited) = handover::inherit(settings).await
            && inherited.is_alone()
        {
            warn!(%admin, for_s = limits::STANDBY_AFTER.as_secs(), "nobody serves on this node");
            return Some(inherited);
        }
    }
}

/// Returns once nobody has listened there for [`limits::STANDBY_AFTER`].
async fn nobody_listens(address: SocketAddr) {
    let mut looks = interval(limits::STANDBY_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = None;
    loop {
        looks.tick().await;
        if somebody_listens(address).await {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= limits::STANDBY_AFTER {
            return;
        }
    }
}

/// Who is too busy to answer is there; so is, for all one knows, who can't be asked.
async fn somebody_listens(address: SocketAddr) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    !matches!(timeout(limits::STANDBY_LOOK, TcpStream::connect(address)).await, Ok(Err(error)) if refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_address_is_free_only_where_the_kernel_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(somebody_listens(address).await, "it needn't accept");
        drop(listener);
        assert!(!somebody_listens(address).await);
        // A broadcast address can't be connected to by TCP.
        assert!(somebody_listens("255.255.255.255:9080".parse().unwrap()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_gone_for_a_moment_begins_the_wait_anew() {
        // Real sockets answer at once; what is paused is the time between two looks.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = tokio::spawn(async move { nobody_listens(address).await });
        drop(listener);
        tokio::time::sleep(limits::STANDBY_AFTER / 2).await;
        let again = TcpListener::bind(address).await.unwrap();
        tokio::time::sleep(limits::STANDBY_LOOK * 3).await;
        assert!(!waiting.is_finished());
        drop(again);
        let begun = Instant::now();
        waiting.await.unwrap();
        assert!(begun.elapsed() >= limits::STANDBY_AFTER, "{:?}", begun.elapsed());
    }
}
