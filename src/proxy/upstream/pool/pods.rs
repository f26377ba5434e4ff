//! The pods behind a pool's address: when some of its connections may lead to one that is gone.

use std::{net::SocketAddr, sync::Arc};

use tokio::time::Instant;

use super::Pool;
use crate::config::limits::SPREAD_SETTLE;

impl Pool {
    pub(super) fn has_several_pods(&self) -> bool {
        self.endpoints.as_ref().is_some_and(|pods| pods.len() > 1)
    }

    /// Compares the pods behind the address with those of the last time: connections may lead to one that went away.
    pub(super) fn heed(&mut self, endpoints: Option<&Arc<[SocketAddr]>>, now: Instant) {
        if self.settles.is_some_and(|settles| settles <= now) {
            self.settles = None;
            self.epoch += 1;
        }
        let (Some(new), old) = (endpoints, &self.endpoints) else { return };
        let Some(old) = old else {
            self.endpoints = Some(Arc::clone(new));
            return;
        };
        if Arc::ptr_eq(old, new) {
            return;
        }
        if old.iter().any(|pod| !new.contains(pod)) {
            self.epoch += 1;
        }
        if new.iter().any(|pod| !old.contains(pod)) {
            self.settles = Some(now + SPREAD_SETTLE);
        }
        self.endpoints = Some(Arc::clone(new));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::tests::pods, *};

    #[test]
    fn connections_are_replaced_when_a_pod_goes_and_some_time_after_one_has_come() {
        let (mut pool, start) = (Pool::default(), Instant::now());
        let mut epoch_at = |pods: &Arc<[SocketAddr]>, after: Duration| {
            pool.heed(Some(pods), start + after);
            pool.epoch
        };
        let (two, three) = (pods([1, 2]), pods([1, 2, 3]));
        assert_eq!(epoch_at(&two, Duration::ZERO), 0);
        assert_eq!(epoch_at(&three, Duration::from_secs(1)), 0, "kube-proxy may not know the third yet");
        assert_eq!(epoch_at(&three, Duration::from_secs(1) + SPREAD_SETTLE), 1);
        assert_eq!(epoch_at(&three, Duration::from_mins(1)), 1, "once is enough");
        assert_eq!(epoch_at(&two, Duration::from_mins(1)), 2, "a pod is gone");
        assert_eq!(epoch_at(&two, Duration::from_mins(2)), 2);
    }
}
