//! The seam between the two flows: one `ArcSwap<Snapshot>`, written by the control thread, read by every worker.

use std::sync::Arc;

use arc_swap::{ArcSwap, cache::Cache};

use crate::route::Snapshot;

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
}

/// The reading end; clone one for each thread that reads.
#[derive(Debug, Clone)]
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Published>>, Arc<Published>>,
}

/// Makes the two ends around an empty table of generation 0.
pub fn channel() -> (Publisher, Reader) {
    let table = Arc::new(ArcSwap::from_pointee(Published { generation: 0, snapshot: Snapshot::default() }));
    let cache = Cache::new(Arc::clone(&table));
    (Publisher { table }, Reader { cache })
}

impl Publisher {
    /// Makes `snapshot` the current table. Returns its generation.
    pub fn publish(&mut self, snapshot: Snapshot) -> u64 {
        let generation = self.current().generation + 1;
        self.table.store(Arc::new(Published { generation, snapshot }));
        generation
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
}
