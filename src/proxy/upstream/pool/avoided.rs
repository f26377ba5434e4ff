//! Which addresses of a backend that has several were dialled in vain: so that not each of its requests begins with one that is dead.

use tokio::time::Instant;

use super::{super::destination::Destination, Pool, Pools};
use crate::config::limits::DIAL_AVOIDED;

impl Pools {
    /// Whether a request may begin with this address although the backend has others. Of one that was dialled in vain some time ago, the first that asks is
    /// to look whether it does better now.
    pub(in super::super) fn may_begin_with(&self, destination: &Destination, now: Instant) -> bool {
        self.by_destination.borrow_mut().get_mut(destination).is_none_or(|pool| pool.may_begin_with(now))
    }

    /// The address was dialled in vain, and another one of the same backend's wasn't.
    pub(in super::super) fn avoid(&self, destination: &Destination, now: Instant) {
        self.by_destination.borrow_mut().entry(destination.clone()).or_default().avoided = Some(now + DIAL_AVOIDED);
    }

    /// The address has answered.
    pub(in super::super) fn prefer(&self, destination: &Destination) {
        if let Some(pool) = self.by_destination.borrow_mut().get_mut(destination) {
            pool.avoided = None;
        }
    }
}

impl Pool {
    fn may_begin_with(&mut self, now: Instant) -> bool {
        match self.avoided {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.avoided = Some(now + DIAL_AVOIDED);
                true
            }
        }
    }

    /// Whether the pool is kept for the sake of what was learned about its address.
    pub(super) fn remembers(&self, now: Instant) -> bool {
        self.avoided.is_some_and(|until| now < until + DIAL_AVOIDED)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::{super::super::destination::Transport, *};
    use crate::config::limits::Limits;

    #[test]
    fn an_address_that_was_dialled_in_vain_is_tried_by_one_request_at_a_time_and_forgotten_in_the_end() {
        let (pools, start) = (Pools::default(), Instant::now());
        let destination = Destination { address: SocketAddr::from(([192, 0, 2, 9], 80)), transport: Transport::H2c };
        let begin_at = |after: Duration| {
            pools.sweep(start + after, &Limits::default());
            [(); 3].map(|()| pools.may_begin_with(&destination, start + after))
        };
        assert_eq!(begin_at(Duration::ZERO), [true; 3], "nothing is known of it");
        pools.avoid(&destination, start);
        assert_eq!(begin_at(DIAL_AVOIDED / 2), [false; 3]);
        assert_eq!(begin_at(DIAL_AVOIDED), [true, false, false], "one looks");
        assert_eq!(begin_at(DIAL_AVOIDED * 3 / 2), [false; 3]);
        pools.prefer(&destination);
        assert_eq!(begin_at(DIAL_AVOIDED * 3 / 2), [true; 3], "it has answered");
        pools.avoid(&destination, start);
        assert_eq!(begin_at(DIAL_AVOIDED * 2), [true; 3], "nobody has asked for it");
        assert!(pools.by_destination.borrow().is_empty());
    }
}
