//! The copy on disk as the only source: what a process serves that stands by, and has nobody to ask for more.

use std::{convert::Infallible, future::pending, path::Path, time::SystemTime};

use super::{age, disk::Disk, format, stores};
use crate::source::{
    SourceError,
    shared::Shared,
    stores::{List, Stores},
};

/// What was in the file.
#[derive(Debug)]
pub(in crate::source) struct Copy {
    stores: Stores,
    written: SystemTime,
    lists: Vec<List>,
}

impl Copy {
    /// Reads it. Whichever cluster it is of, this node was in that: nothing here knows of any other. The file and its directory stay as they are.
    pub(in crate::source) fn open(directory: &Path, lists: Vec<List>) -> Result<Self, SourceError> {
        let refused = |cause: String| SourceError::Copy { directory: directory.to_owned(), cause };
        let bytes = Disk::new(directory.to_owned()).read().map_err(|error| refused(format!("can't be read: {error}")))?;
        let bytes = bytes.ok_or_else(|| refused("isn't there".to_owned()))?;
        let format::Contents { objects, written } =
            format::decode(&bytes, None, &lists).map_err(|unusable| refused(unusable.to_string()))?;
        Ok(Self { stores: stores(objects, &lists), written, lists })
    }

    /// What a source would have to bring.
    pub(in crate::source) fn awaited(&self) -> Stores {
        Stores::new(self.lists.clone())
    }

    /// Has it served, for ever.
    pub(in crate::source) async fn run(self, shared: &Shared) -> Result<Infallible, SourceError> {
        tracing::warn!(age_s = age(self.written), "serving what is on disk");
        shared.restore(self.stores, self.written);
        shared.fall_back();
        pending().await
    }
}
