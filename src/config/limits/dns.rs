//! The limits of name resolution, for ExternalName.

use std::time::Duration;

/// How long a DNS name's addresses are kept at most, whatever their TTL says; and at least, so that a TTL of 0 is no flood.
pub const DNS_TTL_MAX: Duration = Duration::from_secs(300);
/// See [`DNS_TTL_MAX`].
pub const DNS_TTL_MIN: Duration = Duration::from_secs(1);

/// One DNS resolution, all attempts together. Beyond: as a failed connect.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(2);

/// Names in a worker's DNS cache.
pub const DNS_CACHE_NAMES: usize = 1024;

/// How long "there is no such name", or a failed resolution, is remembered: so that requests for a broken name don't flood the resolver, and a
/// name that was just created appears soon.
pub const DNS_NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// Once the A or the AAAA answer is there, how long the other one is waited for. Beyond: the request goes on with what is there, and asks
/// again after [`DNS_NEGATIVE_TTL`]. Resolvers that drop AAAA queries are common; RFC 8305 waits 50 ms, but keeps nothing.
pub const DNS_FAMILY_GRACE: Duration = Duration::from_millis(300);

/// How long past its end an answer is still used while the resolver fails. Addresses seldom change within the hour that an outage lasts.
pub const DNS_STALE_MAX: Duration = Duration::from_secs(3600);

/// While an old answer is in use: how long until the resolver is asked again. RFC 8767 section 5 demands 30 s at least.
pub const DNS_STALE_RETRY: Duration = Duration::from_secs(30);
