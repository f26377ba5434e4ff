//! Limits of reaching a backend's host: how long it may stay silent, and how many dials are under way beside each other.

use std::time::Duration;

/// Establishing a connection to a backend, all dials together. Beyond: 504 `upstream_timeout`. A host whose kept connection is silent has
/// two thirds of it, and dialling anew the last one ([`REDIAL_SHARE`]), so that such a 504 takes no longer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The part of [`CONNECT_TIMEOUT`] that is left for dialling anew after a backend's host hasn't acknowledged a request: one in so many. It has had
/// the others, 2 s: the kernel sends again after 0.2, 0.6 and 1.4 s, so that a host has to miss a request four times to count as gone.
pub const REDIAL_SHARE: u32 = 3;

/// Dialling anew has at least so long, unless [`CONNECT_TIMEOUT`] is shorter: a connect timeout of a second is no reason to fail a host that answers.
pub const REDIAL_MIN: Duration = Duration::from_secs(1);

/// A dial that hasn't been answered for so long gets another one beside it (as in RFC 8305 section 5), to another pod where there is another: kube-proxy
/// draws one for each. Above any round trip inside a cluster, and below the second after which a SYN is sent again. Shorter where all of
/// [`DIALS_AT_ONCE`] wouldn't begin in time.
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);

/// Of several addresses of a name or a Service, one that was dialled in vain while another one answered is the last choice for so long; then one request
/// looks whether it does better now, and the others go on as before. A worker remembers it for twice as long, and no longer: these are no more than
/// the addresses that it dials in a minute. Long enough for what that one request waits ([`DIAL_STAGGER`]) to be no matter, and short enough for the
/// address that its owner prefers to be back within a minute.
pub const DIAL_AVOIDED: Duration = Duration::from_secs(30);

/// Dials of one request beside each other, where there are several pods. With two of three pods out of reach, all of them meet one of those once
/// in 26 times; three did once in three times. As many are made one after the other, where pods refuse.
pub const DIALS_AT_ONCE: usize = 8;

/// As [`DIALS_AT_ONCE`], where all would reach the same host: the other one is for a lost packet.
pub const DIALS_TO_ONE_HOST: usize = 2;

/// Dials that one worker has beside the first ones of its requests, for each backend address. Beyond: a request gives up the one that it has before it
/// begins another ([`DIAL_GIVEN_UP`]). A backend that is out of reach altogether costs no more sockets at once than these and one for each request. Since
/// each of these ends within [`CONNECT_TIMEOUT`], they are some 130 dials a second, or 16,000 entries that conntrack keeps for two minutes: half of what
/// kube-proxy allows for each core. A request that has only its own adds three.
pub const DIALS_BESIDE: usize = 256;

/// A connection that took longer to open carries the request that it was opened for, and no other. If it was the answer that got lost on the
/// way, the kernel takes that time for a round trip's: it would send what gets lost again after seconds, and the backend's host has its two
/// thirds of [`CONNECT_TIMEOUT`] from then on only, so that connections opened at the end of one outage would hide the beginning of the next. If
/// it was the first packet, there is nothing wrong with it; nobody can tell the two apart, and one more dial is cheap. Above any round trip to
/// a backend, and below the second after which a SYN is sent again.
pub const DIAL_SLOW: Duration = Duration::from_millis(750);

/// A dial has at least so long before another takes its place, where it can't have one beside it: the time after which a SYN is sent again in any case.
pub const DIAL_GIVEN_UP: Duration = Duration::from_secs(1);

/// Bytes of a request's body up to which the backend's host has to acknowledge it within its part of [`CONNECT_TIMEOUT`]. They fit into any receive window
/// that is empty, so it is the network that fails if they aren't. A longer upload may wait for a backend that takes its time to read, which looks the same.
pub const ACKNOWLEDGED_BODY_BYTES: u64 = 16 * 1024;
