//! Limits of what nodes report of the versions that they serve, and of whoever waits for it.

use std::time::Duration;

/// Quiet time before a report is written, and up to as much again by chance: a new Ingress gets its status a moment later, and is one report then; and the
/// nodes of a cluster, all of which hear of an edit at once, don't write at once.
pub const REPORT_SETTLE: Duration = Duration::from_millis(100);

/// The least time between two reports of one node. Beyond: later, in one. Somebody waits for them; and a hundred nodes are a hundred writes.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Reports in a row at that distance. Beyond: one each [`REPORT_INTERVAL_BUSY`], until it has rested: each such time without one allows one more. A change of nodes writes the
/// status of every Ingress, for half a minute in a cluster of 10,000.
pub const REPORTS_IN_A_ROW: u32 = 10;

/// See there. Half of what a kubelet writes for its node, at twice the rate.
pub const REPORT_INTERVAL_BUSY: Duration = Duration::from_secs(5);

/// After that time a report is written again although it is the same, in case somebody has deleted it. It is also when
/// the generation in it is brought up to date, which nobody waits for.
pub const REPORT_REFRESH: Duration = Duration::from_mins(10);

/// One write of a report. Beyond: tried again.
pub const REPORT_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause between two tries to write a report; it begins with [`super::API_BACKOFF_MIN`].
pub const REPORT_RETRY_MAX: Duration = Duration::from_secs(15);

/// Names of Ingresses in a report whose newest version isn't in force. Beyond: `...`, and nobody can tell of the others. At most 32 KB of the 256 that
/// annotations may have.
pub const REPORT_HELD: usize = 100;

/// How long `nodegate wait` waits (`--timeout`).
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// The longest `--timeout`: a CI job that waits longer has lost its runner.
pub const WAIT_TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// How long `nodegate wait` sees a version held back before it gives up: what it lacks may be on its way, and reports come at their pace, at worst
/// [`REPORT_INTERVAL_BUSY`] apart.
pub const WAIT_HELD: Duration = Duration::from_secs(6);

/// Between two looks of `nodegate wait`: some 20 KB for each node each time.
pub const WAIT_POLL: Duration = Duration::from_millis(500);

/// One request of `nodegate wait`. Beyond: tried again, until its timeout.
pub const WAIT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
