//! The limits of a handover between two processes on one node.

use std::time::Duration;

/// How long a new process waits for the running one to offer its sockets. Beyond: it binds beside it, and says so. The running one has only to ask its
/// workers, which answer within [`super::SCRAPE_TIMEOUT`].
pub const HANDOVER_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Each message between the two, sent or waited for, where the other side has nothing to wait for itself. Beyond: the handover is given up, and whoever
/// accepts goes on. Long, since a node that has just started a pod is busy.
pub const HANDOVER_STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new process asks again while the running one is busy: with another new one, or with its own start. Beyond: the new one ends with an error.
/// As long as a kubelet grants a pod that it ends.
pub const HANDOVER_BUSY_WAIT: Duration = Duration::from_secs(30);

/// Pause between two tries: of asking a busy process, of binding what another process still holds.
pub const HANDOVER_RETRY: Duration = Duration::from_millis(250);

/// Between two looks of a process that stands by at whether another one serves on its node, and how long one of them may take.
pub const STANDBY_LOOK: Duration = Duration::from_secs(1);

/// For how long nobody may have been there before it serves itself: as long as a process that starts grants the API server ([`super::API_TIMEOUT`]). A kubelet
/// starts one that has crashed again within two seconds, and after a reboot in reach of an API server it has heard of its pods by then.
pub const STANDBY_AFTER: Duration = Duration::from_secs(10);

/// Between two looks of a process that stands by at whether what it would serve can be used.
pub const STANDBY_CHECK: Duration = Duration::from_hours(1);

/// With `--after-handover exit`: how long the old process stays able to take back before it drains and ends. Most crashes of a new version are in its
/// first seconds; and clients that send requests meanwhile have changed over by then.
pub const HANDOVER_SETTLE: Duration = Duration::from_secs(5);

/// Connections to the rendezvous whose first message hasn't come. Beyond: the others wait in the kernel's queue. More than ever come at once: one.
pub const HANDOVER_GREETINGS: usize = 8;

/// Sockets in one offer. Beyond: the handover is refused. Four addresses on a machine with 512 cores.
pub const HANDOVER_SOCKETS: usize = 2048;

/// Sockets in one message. The kernel takes 253 (SCM_MAX_FD).
pub const HANDOVER_BATCH: usize = 128;

/// Bytes of one message. Beyond: the handover is given up. The longest names the addresses that are served, some 30 bytes each.
pub const HANDOVER_MESSAGE_BYTES: usize = 64 * 1024;
