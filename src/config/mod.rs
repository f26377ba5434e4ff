//! From arguments to typed settings, and every limit in one place.

pub mod limits;
