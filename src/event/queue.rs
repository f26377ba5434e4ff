//! Events by the time at which each is to be looked at.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

/// The queue, by the Events' names. Its bound is that of the ledger's entries.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeSet<(Instant, Arc<str>)>,
    /// Whether the last one taken was the newest.
    newest: bool,
}

impl Queue {
    /// Puts one in.
    pub(super) fn put(&mut self, due: Instant, event: Arc<str>) {
        self.entries.insert((due, event));
    }

    /// Takes it out, if it is there.
    pub(super) fn remove(&mut self, due: Instant, event: &Arc<str>) {
        self.entries.remove(&(due, Arc::clone(event)));
    }

    /// When the first one is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.entries.first().map(|(due, _)| *due)
    }

    /// Takes one out that is due. The newest and the oldest in turn: whoever has just changed an Ingress doesn't wait behind ten thousand others,
    /// and these don't wait for ever.
    pub(super) fn take(&mut self, now: Instant) -> Option<Arc<str>> {
        self.newest = !self.newest;
        let mut due = self.entries.range(..(now + Duration::from_nanos(1), Arc::from("")));
        let taken = if self.newest { due.next_back() } else { due.next() }.cloned()?;
        self.entries.remove(&taken);
        Some(taken.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_oldest_come_in_turn_and_nothing_before_its_time() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        for (seconds, event) in [(3, "c"), (1, "a"), (2, "b"), (4, "d"), (9, "later")] {
            queue.put(at(seconds), event.into());
        }
        queue.remove(at(2), &"b".into());
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(at(4))).collect();
        assert_eq!(taken.iter().map(|event| &**event).collect::<Vec<_>>(), ["d", "a", "c"]);
        assert_eq!(queue.first(), Some(at(9)));
    }
}
