//! The limits of what is written to the cluster: the leader's Lease, and the status of Ingresses.

use std::time::Duration;

/// How long the other candidates wait after the leader's last sign of life before one takes its place (`--lease-duration`). The leader itself stops after
/// two thirds of it. client-go's numbers: 15, 10 and 2 s between renewals.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// The longest duration that the holder of a Lease is believed to need. Beyond: it counts as this. Somebody's mistake in the Lease must not leave
/// the cluster without a leader for ever.
pub const LEASE_DURATION_BELIEVED: Duration = Duration::from_secs(300);

/// At exit, how long releasing the Lease may take. Beyond: the next leader waits for its end, which hurts nobody.
pub const LEASE_RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Tries to release the Lease while our own last renewal is still arriving. One is usual.
pub const LEASE_RELEASE_TRIES: u32 = 3;

/// How long a drain waits, before it stops accepting, until no Ingress bears this node's address any more. Beyond: it stops all the same, as whoever
/// leads may be gone too. Seeing the pod's end, and writing some hundred Ingresses, takes a leader far less. It is part of `--drain-timeout`, through the
/// rest of which a leader that isn't done goes on.
pub const STATUS_WITHDRAW_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the address of a node stays in Ingresses whose Nodegate, or kubelet, stopped being Ready without leaving. Beyond: withdrawn. A hiccup
/// doesn't show; and it took Kubernetes longer than this to notice.
pub const STATUS_REMOVAL_HOLD: Duration = Duration::from_secs(5);

/// How long a Nodegate that was withdrawn twice must be up before its node's address comes back; it doubles with each further withdrawal. One that crashes
/// over and over would otherwise write every Ingress twice each time. The first return has no hold: a node whose link was down is wanted back.
pub const STATUS_RETURN_HOLD_MIN: Duration = Duration::from_secs(10);

/// The longest such hold: also the kubelet's longest pause between two starts of a container, and so about as rare as a crash loop's rounds.
pub const STATUS_RETURN_HOLD_MAX: Duration = Duration::from_secs(300);

/// Up for as long as this: its earlier withdrawals are forgotten. More than [`STATUS_RETURN_HOLD_MAX`]; and the kubelet forgets a container's crashes
/// after the same time.
pub const STATUS_RETURN_CALM: Duration = Duration::from_secs(600);

/// Quiet time after a change of pods, nodes or Ingresses before their status is compared: a rollout comes in bursts.
pub const STATUS_SETTLE: Duration = Duration::from_millis(100);

/// Statuses written at the same time. Measured on two cores, API server and all: some 370 a second, so that a change of nodes reaches 10,000 Ingresses
/// within half a minute; and it leaves the API server time for others.
pub const STATUS_WRITES_AT_ONCE: usize = 4;

/// The same once all Nodegates leave: whoever leads has no longer than its drain for all Ingresses, nobody comes after it, and the API server is far away
/// from the nodes of some clusters: 16 at 20 ms each are 800 a second.
pub const STATUS_WITHDRAWALS_AT_ONCE: usize = 16;

/// One write of a status. Beyond: tried again.
pub const STATUS_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause between two tries to write the status of one Ingress.
pub const STATUS_RETRY_MAX: Duration = Duration::from_secs(30);

/// When another writer changes our addresses: the pause before they are written again. It doubles with each time.
pub const STATUS_CONTEST_MIN: Duration = Duration::from_secs(1);

/// The longest such pause: a write war costs the API server one write in five minutes.
pub const STATUS_CONTEST_MAX: Duration = Duration::from_secs(300);

/// Our addresses were left alone for as long as this: the next change of them counts as the first. More than [`STATUS_CONTEST_MAX`].
pub const STATUS_CONTEST_CALM: Duration = Duration::from_secs(900);

/// At this many changes in a row by another writer it is said in the log. The first ones may be the last words of a controller that leaves.
pub const STATUS_CONTEST_TOLD: u32 = 3;

/// What the watches of pods and nodes have seen, and nobody has taken yet. Beyond: the watches wait.
pub const STATUS_FACTS_QUEUE: usize = 256;
