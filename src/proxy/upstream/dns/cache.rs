//! What DNS said, and until when that is current: bounded in number and in time. It is told what time it is.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::DnsError;
use crate::config::limits::{DNS_CACHE_NAMES, DNS_NEGATIVE_TTL, DNS_STALE_MAX, DNS_STALE_RETRY, DNS_TTL_MAX, DNS_TTL_MIN};

/// Addresses, at least one; or why there are none.
pub(super) type Answer = Result<Arc<[IpAddr]>, DnsError>;

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Box<str>, Entry>,
}

/// The last addresses of a name, at least one.
#[derive(Debug)]
pub(super) struct Good {
    addresses: Arc<[IpAddr]>,
    usable_until: Instant,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    /// From then on the servers are asked again.
    current_until: Instant,
    /// Until then the answer serves while the servers fail.
    usable_until: Instant,
}

impl Cache {
    /// The answer to use; none if the servers are to be asked.
    pub(super) fn current(&self, host: &str, now: Instant) -> Option<Answer> {
        self.entries.get(host).filter(|entry| now < entry.current_until).map(|entry| entry.answer.clone())
    }

    /// Keeps addresses for `ttl`, within our own bounds. Returns them.
    pub(super) fn keep(&mut self, host: &str, addresses: Arc<[IpAddr]>, ttl: Duration, now: Instant) -> Answer {
        let current_until = now + ttl.clamp(DNS_TTL_MIN, DNS_TTL_MAX);
        self.insert(host, Entry { answer: Ok(addresses), current_until, usable_until: current_until + DNS_STALE_MAX }, now)
    }

    /// Keeps what the servers say: that there is nothing. It replaces any addresses.
    pub(super) fn keep_refusal(&mut self, host: &str, error: DnsError, now: Instant) -> Answer {
        let until = now + DNS_NEGATIVE_TTL;
        self.insert(host, Entry { answer: Err(error), current_until: until, usable_until: until }, now)
    }

    /// Addresses that serve while the servers fail.
    pub(super) fn usable(&self, host: &str, now: Instant) -> Option<Good> {
        let entry = self.entries.get(host).filter(|entry| now < entry.usable_until)?;
        Some(Good { addresses: Arc::clone(entry.answer.as_ref().ok()?), usable_until: entry.usable_until })
    }

    /// The servers say that there is nothing, which nobody needs to be told.
    pub(super) fn forget(&mut self, host: &str) {
        self.entries.remove(host);
    }

    /// The servers failed: older addresses, where they are still usable, are current for another while; those of `elsewhere`, where they are newer. Else the
    /// failure is kept.
    pub(super) fn keep_failure(&mut self, host: &str, error: DnsError, elsewhere: Option<Good>, now: Instant) -> Answer {
        let own = self.usable(host, now).map(|own| own.usable_until);
        if let Some(Good { addresses, usable_until }) = elsewhere
            && own.is_none_or(|own| own < usable_until)
        {
            // The failure itself is handled below.
            let _ = self.insert(host, Entry { answer: Ok(addresses), current_until: now, usable_until }, now);
        }
        match self.entries.get_mut(host) {
            Some(entry) if entry.answer.is_ok() && now < entry.usable_until => {
                entry.current_until = entry.current_until.max((now + DNS_STALE_RETRY).min(entry.usable_until));
                entry.answer.clone()
            }
            _ => self.keep_refusal(host, error, now),
        }
    }

    fn insert(&mut self, host: &str, entry: Entry, now: Instant) -> Answer {
        if self.entries.len() >= DNS_CACHE_NAMES && !self.entries.contains_key(host) {
            self.make_room(now);
        }
        let answer = entry.answer.clone();
        self.entries.insert(host.into(), entry);
        answer
    }

    /// Drops what is of no use any more; if that is nothing, the one that would be asked about first.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now < entry.usable_until);
        if self.entries.len() >= DNS_CACHE_NAMES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.current_until).map(|(host, _)| host.clone());
            if let Some(host) = oldest {
                self.entries.remove(&host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    fn one() -> Arc<[IpAddr]> {
        Arc::from(["192.0.2.1".parse().unwrap()])
    }

    fn failed() -> DnsError {
        DnsError::Failed("refused".into())
    }

    #[test]
    fn ttl_is_kept_within_bounds() {
        let now = Instant::now();
        for (ttl, kept) in [
            (Duration::ZERO, DNS_TTL_MIN),
            (30 * SECOND, 30 * SECOND),
            (DNS_TTL_MAX + SECOND, DNS_TTL_MAX),
            (Duration::from_secs(u32::MAX.into()), DNS_TTL_MAX),
        ] {
            let mut cache = Cache::default();
            assert_eq!(cache.keep("a", one(), ttl, now), Ok(one()));
            assert_eq!(cache.current("a", now + kept - MILLISECOND), Some(Ok(one())), "{ttl:?}");
            assert_eq!(cache.current("a", now + kept), None, "{ttl:?}");
        }
    }

    #[test]
    fn refusal_is_kept_briefly_and_replaces_addresses() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.keep("a", one(), SECOND, now).unwrap();
        let later = now + 2 * SECOND;
        assert_eq!(cache.keep_refusal("a", DnsError::NoAddresses, later), Err(DnsError::NoAddresses));
        assert_eq!(cache.current("a", later + DNS_NEGATIVE_TTL - MILLISECOND), Some(Err(DnsError::NoAddresses)));
        assert_eq!(cache.current("a", later + DNS_NEGATIVE_TTL), None);
        assert_eq!(cache.keep_failure("a", failed(), None, later + DNS_NEGATIVE_TTL), Err(failed()), "what was refused doesn't come back");
    }

    #[test]
    fn failure_uses_older_addresses_but_not_for_ever() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.keep("a", one(), SECOND, now).unwrap();
        let end = now + SECOND + DNS_STALE_MAX;

        let expired = now + 2 * SECOND;
        assert_eq!(cache.keep_failure("a", failed(), None, expired), Ok(one()));
        assert_eq!(cache.current("a", expired + DNS_STALE_RETRY - MILLISECOND), Some(Ok(one())), "no flood while the servers fail");
        assert_eq!(cache.current("a", expired + DNS_STALE_RETRY), None, "asked again");

        assert_eq!(cache.keep_failure("a", failed(), None, end - MILLISECOND), Ok(one()));
        assert_eq!(cache.current("a", end), None, "a retry doesn't reach beyond the end");
        assert_eq!(cache.keep_failure("a", failed(), None, end), Err(failed()));
        assert_eq!(cache.current("a", end + DNS_NEGATIVE_TTL - MILLISECOND), Some(Err(failed())));
    }

    #[test]
    fn failure_uses_the_newest_addresses_that_anybody_has() {
        let now = Instant::now();
        let other = || Arc::from(["192.0.2.2".parse().unwrap()]);
        let elsewhere = |ttl: Duration| {
            let mut cache = Cache::default();
            cache.keep("a", other(), ttl, now).unwrap();
            move |now| cache.usable("a", now)
        };
        let (older, newer) = (elsewhere(5 * SECOND), elsewhere(20 * SECOND));
        let mut cache = Cache::default();
        let expired = now + 30 * SECOND;
        assert_eq!(cache.keep_failure("a", failed(), newer(expired), expired), Ok(other()), "where there are none of its own");
        assert_eq!(cache.current("a", expired + DNS_STALE_RETRY - MILLISECOND), Some(Ok(other())));

        for (elsewhere, expected) in [(&older, one()), (&newer, other())] {
            let mut cache = Cache::default();
            cache.keep("a", one(), 10 * SECOND, now).unwrap();
            assert_eq!(cache.keep_failure("a", failed(), elsewhere(expired), expired), Ok(expected));
        }

        let end = now + 20 * SECOND + DNS_STALE_MAX;
        assert_eq!(Cache::default().keep_failure("a", failed(), newer(end), end), Err(failed()), "not for ever");
        assert_eq!(cache.keep_failure("a", failed(), None, end), Err(failed()), "no longer than where they come from");
    }

    #[test]
    fn number_of_names_is_bounded() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for index in 0..DNS_CACHE_NAMES {
            let ttl = if index == 7 { 10 * SECOND } else { 20 * SECOND };
            cache.keep(&format!("name-{index}"), one(), ttl, now).unwrap();
        }
        cache.keep("name-8", one(), 20 * SECOND, now).unwrap();
        assert_eq!(cache.current("name-7", now), Some(Ok(one())), "a known name needs no room");
        cache.keep("another", one(), 20 * SECOND, now).unwrap();
        assert_eq!(cache.entries.len(), DNS_CACHE_NAMES);
        assert_eq!(cache.current("name-7", now), None, "the first to end makes room");
        assert_eq!(cache.current("another", now), Some(Ok(one())));

        cache.keep("late", one(), SECOND, now + 20 * SECOND + DNS_STALE_MAX).unwrap();
        assert_eq!(cache.entries.len(), 1, "what is of no use goes first");
    }
}
