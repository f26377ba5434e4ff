//! The seam between the two flows: one `ArcSwap<Snapshot>`, written by the control thread, read by every worker.

use std::{future, ops::Deref, sync::Arc};

use arc_swap::{ArcSwap, cache::Cache};
use tokio::{task, time};

use crate::{config::limits::RETIRED_TABLE_LOOK, route::Snapshot};

/// A snapshot that was published, with its place in the order of publications.
#[derive(Debug)]
pub struct Published {
    /// 0 is the empty table before the first publication.
    pub generation: u64,
    /// The table.
    pub snapshot: Snapshot,
}

/// The writing end; there is one.
#[derive(Debug)]
pub struct Publisher {
    table: Arc<ArcSwap<Published>>,
    /// Those that were replaced. A reader may have one of them still, but must not be the last to let go of it: to free a table of fifty thousand hosts takes
    /// a tenth of a second, in which a worker would serve nobody.
    retired: Vec<Arc<Published>>,
}

/// The reading end; clone one for each thread that reads.
#[derive(Debug, Clone)]
pub struct Reader {
    table: Arc<ArcSwap<Published>>,
    cache: Cache<Arc<ArcSwap<Published>>, Arc<Published>>,
}

/// The same for whoever reads now and then, and can't change anything to do so.
#[derive(Debug, Clone)]
pub struct Watched(Arc<ArcSwap<Published>>);

impl Watched {
    /// The table in force.
    pub fn load(&self) -> impl Deref<Target = Arc<Published>> + use<> {
        self.0.load()
    }
}

/// Makes the two ends around an empty table of generation 0.
pub fn channel() -> (Publisher, Reader) {
    let table = Arc::new(ArcSwap::from_pointee(Published { generation: 0, snapshot: Snapshot::default() }));
    let cache = Cache::new(Arc::clone(&table));
    (Publisher { table: Arc::clone(&table), retired: Vec::new() }, Reader { table, cache })
}

impl Publisher {
    /// Makes `snapshot` the current table. Returns its generation.
    pub fn publish(&mut self, snapshot: Snapshot) -> u64 {
        let generation = self.current().generation + 1;
        let old = self.table.swap(Arc::new(Published { generation, snapshot }));
        // The first one is empty, and some readers never ask for another.
        if old.generation > 0 {
            self.retired.push(old);
        }
        generation
    }

    /// Frees a table that was replaced, when no reader has it any more, on a thread for such work. Never returns where there is none. It may be cancelled at any time.
    pub async fn reclaim(&mut self) {
        if self.retired.is_empty() {
            future::pending::<()>().await;
        }
        loop {
            let unread: Vec<_> = self.retired.extract_if(.., |table| Arc::strong_count(table) == 1).collect();
            if !unread.is_empty() {
                // Nobody waits for it.
                drop(task::spawn_blocking(move || drop(unread)));
                return;
            }
            time::sleep(RETIRED_TABLE_LOOK).await;
        }
    }

    /// The table in force.
    pub fn current(&self) -> Arc<Published> {
        self.table.load_full()
    }
}

impl Reader {
    /// The table in force: one atomic load, and a reference count only when it has changed since the last call.
    pub fn load(&mut self) -> &Arc<Published> {
        self.cache.load()
    }

    /// For reading now and then.
    pub fn watch(&self) -> Watched {
        Watched(Arc::clone(&self.table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_never_the_last_that_has_a_table() {
        let (mut publisher, mut reader) = channel();
        publisher.publish(Snapshot::default());
        let first = Arc::downgrade(reader.load());
        assert!(time::timeout(10 * RETIRED_TABLE_LOOK, publisher.reclaim()).await.is_err(), "there was nothing to free");
        publisher.publish(Snapshot::default());
        assert!(time::timeout(10 * RETIRED_TABLE_LOOK, publisher.reclaim()).await.is_err(), "freed what a reader has");
        assert_eq!(first.strong_count(), 2);
        assert_eq!(reader.load().generation, 2);
        assert_eq!(first.strong_count(), 1, "the reader was the last");
        publisher.reclaim().await;
        while first.strong_count() > 0 {
            task::yield_now().await;
        }
        assert!(time::timeout(10 * RETIRED_TABLE_LOOK, publisher.reclaim()).await.is_err(), "freed the table in force");
    }
}
