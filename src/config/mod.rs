//! From arguments to typed settings, and every limit in one place. Whatever can be wrong with an argument is found here, once.

pub mod args;
mod checks;
mod cluster;
mod handover;
pub mod limits;
mod secret_name;
mod settings;
mod shown;
mod span;
mod state;
mod table;
mod usage;

pub use args::TlsVersion;
pub use cluster::{Address, ClusterSettings};
pub use handover::{AfterHandover, Handover};
pub use settings::{AccessLog, ServeSettings, SettingsError};
pub use span::{BadSpan, Span};
pub use state::StateDir;
pub use table::options;
pub use usage::{Invocation, one_line, parse};
