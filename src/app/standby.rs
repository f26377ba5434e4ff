//! A process that stands by: it waits for as long as another one serves on its node, and then serves what is on disk, until somebody takes over.

use std::{
    convert::{self, Infallible},
    env, io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::Command,
};

use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

use super::handover::Inherited;
use crate::{
    config::limits::{STANDBY_AFTER, STANDBY_CHECK, STANDBY_LOOK},
    handover::{Name, Rendezvous},
    source::{Opened, Source, SourceError},
};

/// Waits until nobody serves on this node. What is on disk then, and what there is to start from: the rendezvous alone, which is taken before anything else, so that
/// whoever comes in this moment finds it.
///
/// # Errors
/// There is nothing to serve.
pub(super) async fn turn(source: Source, admin: SocketAddr, name: Name) -> Result<(Opened, Inherited), SourceError> {
    info!(%admin, "standing by: serving once nobody else does on this node");
    loop {
        tokio::select! {
            () = nobody_listens(admin) => {}
            never = look_at(&source) => match never {},
        }
        let opened = source.clone().open().await?;
        match Rendezvous::bind(name.clone()) {
            // Reading may have taken a while.
            Ok(_) if somebody_listens(admin).await => {}
            Ok(rendezvous) => {
                warn!(%admin, for_s = STANDBY_AFTER.as_secs(), "nobody serves on this node");
                return Ok((opened, Inherited::standing_by(name, rendezvous)));
            }
            Err(error) => warn!(%error, %name, "nobody serves on this node, and another process has the rendezvous of who stands by"),
        }
    }
}

/// Begins anew, as it was begun, once somebody has taken over: in the same process, as whoever looks after it sees it, which would let one wait that has ended
/// several times. Returns only if that can't be done.
pub(super) fn again() -> anyhow::Error {
    let execute = |program| {
        let (mut command, mut arguments) = (Command::new(program), env::args_os());
        arguments.next().into_iter().for_each(|name| _ = command.arg0(name));
        command.args(arguments).exec()
    };
    let error = env::current_exe().map_or_else(convert::identity, execute);
    anyhow::Error::new(error).context("can't stand by again")
}

/// Says now and then, for ever, if there is nothing to serve: the time to hear of that isn't when it is needed.
async fn look_at(source: &Source) -> Infallible {
    loop {
        if let Err(error) = source.clone().open().await {
            warn!(%error, "standing by with nothing to serve");
        }
        sleep(STANDBY_CHECK).await;
    }
}

/// Returns once nobody has listened there for [`STANDBY_AFTER`]. Looks are counted, since a process that was stopped for a while has seen nothing of it.
async fn nobody_listens(address: SocketAddr) {
    let mut looks = interval(STANDBY_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_vain = 0;
    while STANDBY_LOOK * in_vain <= STANDBY_AFTER {
        looks.tick().await;
        in_vain = if somebody_listens(address).await { 0 } else { in_vain + 1 };
    }
}

/// Who is too busy to answer is there; so is, for all one knows, who can't be asked.
async fn somebody_listens(address: SocketAddr) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    !matches!(timeout(STANDBY_LOOK, TcpStream::connect(address)).await, Ok(Err(error)) if refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{net::TcpListener, time::Instant};

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
        sleep(STANDBY_AFTER / 2).await;
        let again = TcpListener::bind(address).await.unwrap();
        sleep(STANDBY_LOOK * 3).await;
        assert!(!waiting.is_finished());
        drop(again);
        let begun = Instant::now();
        waiting.await.unwrap();
        assert!(begun.elapsed() >= STANDBY_AFTER, "{:?}", begun.elapsed());
    }
}
