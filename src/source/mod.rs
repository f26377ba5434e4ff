//! Where objects come from: stores, the dirty mark, the `cluster` and `file` sources, and the rebuild loop.

mod report;

pub use report::{CONFIG_TO_LIVE_BUCKETS, Report};
