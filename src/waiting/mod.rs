//! What background work waits for: a change, a moment, and its turn at a bounded rate.

mod bucket;

use std::future::pending;

use tokio::{
    sync::watch::Receiver,
    time::{self, Instant},
};

pub(crate) use bucket::{Bucket, Rate};

/// Waits for a change; for ever once there can be none.
pub(crate) async fn changed<T>(receiver: &mut Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Waits until that moment; for ever where there is none.
pub(crate) async fn sleep_until(moment: Option<impl Into<Instant>>) {
    match moment {
        Some(moment) => time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}
