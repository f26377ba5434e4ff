//! Which versions of the cluster's Ingresses each node serves: every process reports it in a Lease of its pod, and whoever wants to know compares.
//!
//! It is about Ingresses alone. That the Services and Secrets behind them are known, too, nobody says.

mod pace;
mod progress;
mod report;
mod seen;
mod writer;

pub use progress::{Lag, Progress, Target, progress};
pub use report::{LABEL, PodReport};
pub use seen::{Seen, reports};
pub use writer::{Counters, Settings, run};
