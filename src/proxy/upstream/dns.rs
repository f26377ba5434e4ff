//! Names to addresses, for `ExternalName` Services: a small cache before hickory-resolver, which sends the queries. Which addresses may be
//! dialled is the caller's question.

mod cache;

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, select};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
    system_conf::read_system_conf,
};
use tokio::time::{Instant, timeout_at};

use self::cache::{Answer, Cache};
use crate::config::limits::{DNS_FAMILY_GRACE, DNS_NEGATIVE_TTL, DNS_TIMEOUT};

/// Asks the system's resolvers (`/etc/resolv.conf`, `/etc/hosts`), and remembers what they said.
///
/// A clone begins with an empty cache and sockets of its own, which belong to the runtime of the thread that uses them: clone it for each worker. What the
/// servers said last is known to all clones, for when the servers fail.
pub(crate) struct Resolver {
    config: Arc<(ResolverConfig, ResolverOpts)>,
    client: Result<TokioResolver, DnsError>,
    cache: Mutex<Cache>,
    /// The last addresses that any clone was told. Asked only by one whose own question the servers didn't answer, so that no request for a name in
    /// its own cache waits for another thread.
    last_good: Arc<Mutex<Cache>>,
}

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsError {
    /// Not a DNS name.
    #[error("`{0}` is not a DNS name")]
    Name(Arc<str>),
    /// The name doesn't exist, or has no addresses.
    #[error("the name has no addresses")]
    NoAddresses,
    /// No answer within [`DNS_TIMEOUT`].
    #[error("no DNS server answered in time")]
    Timeout,
    /// The servers can't be reached, or fail.
    #[error("DNS failed: {0}")]
    Failed(Arc<str>),
}

/// What one query brought: addresses, perhaps none, and how long that holds.
type Family = Result<(Vec<IpAddr>, Duration), DnsError>;

impl Resolver {
    /// Reads the system's configuration. Without a usable one the server on this machine is asked, as the C library does.
    pub(crate) fn new() -> Self {
        let (config, options) = read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "/etc/resolv.conf is not usable: ExternalName Services are resolved by the server on 127.0.0.1");
            (ResolverConfig::from_name_servers(vec![NameServerConfig::udp_and_tcp([127, 0, 0, 1].into())]), ResolverOpts::default())
        });
        Self::with_config(config, options)
    }

    fn with_config(config: ResolverConfig, mut options: ResolverOpts) -> Self {
        // Two tries within the deadline: the first query, or its answer, may be lost.
        options.timeout = options.timeout.min(DNS_TIMEOUT * 2 / 5);
        options.cache_size = 0;
        Self::build(Arc::new((config, options)), Arc::default())
    }

    fn build(config: Arc<(ResolverConfig, ResolverOpts)>, last_good: Arc<Mutex<Cache>>) -> Self {
        let client =
            TokioResolver::builder_with_config(config.0.clone(), TokioRuntimeProvider::default()).with_options(config.1.clone()).build();
        let client = client.map_err(|error| DnsError::Failed(error.to_string().into()));
        Self { config, client, cache: Mutex::default(), last_good }
    }

    /// The addresses of `host`, IPv4 before IPv6, at least one. `host` is absolute: no search domain is tried.
    ///
    /// # Errors
    /// When there are none, or the servers fail and no older answer is left. Answers within [`DNS_TIMEOUT`].
    pub(crate) async fn resolve(&self, host: &str) -> Answer {
        self.resolve_at(host, Instant::now()).await
    }

    /// `now` is what the cache goes by.
    async fn resolve_at(&self, host: &str, now: Instant) -> Answer {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::from([address]));
        }
        if let Some(answer) = locked(&self.cache).current(host, now) {
            return answer;
        }
        let deadline = Instant::now() + DNS_TIMEOUT;
        match self.look_up(host, deadline).await {
            Ok((addresses, ttl)) => {
                let addresses: Arc<[IpAddr]> = addresses.into();
                let _ = locked(&self.last_good).keep(host, Arc::clone(&addresses), ttl, now);
                locked(&self.cache).keep(host, addresses, ttl, now)
            }
            Err(error @ (DnsError::NoAddresses | DnsError::Name(_))) => {
                locked(&self.last_good).forget(host);
                locked(&self.cache).keep_refusal(host, error, now)
            }
            Err(error @ (DnsError::Timeout | DnsError::Failed(_))) => {
                let elsewhere = locked(&self.last_good).usable(host, now);
                locked(&self.cache).keep_failure(host, error, elsewhere, now)
            }
        }
    }

    /// Both address families at once. The client sends one query for all who ask it the same at the same time.
    async fn look_up(&self, host: &str, deadline: Instant) -> Family {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let mut name = Name::from_ascii(host).map_err(|_| DnsError::Name(host.into()))?;
        name.set_fqdn(true);
        let v4 = pin!(ask(client, name.clone(), RecordType::A, deadline));
        let v6 = pin!(ask(client, name, RecordType::AAAA, deadline));
        match select(v4, v6).await {
            Either::Left((v4, v6)) => {
                let v6 = other_family(&v4, v6).await;
                combine(v4, v6)
            }
            Either::Right((v6, v4)) => {
                let v4 = other_family(&v6, v4).await;
                combine(v4, v6)
            }
        }
    }
}

impl Clone for Resolver {
    fn clone(&self) -> Self {
        Self::build(Arc::clone(&self.config), Arc::clone(&self.last_good))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("config", &self.config.0).finish_non_exhaustive()
    }
}

/// Never held across an await, and for a look only: a resolver's own cache is one thread's, and that of all clones is met only after a query. A panic
/// elsewhere leaves it whole.
fn locked(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// "No such record" is an answer: no addresses.
async fn ask(client: &TokioResolver, name: Name, record_type: RecordType, deadline: Instant) -> Family {
    let answer = timeout_at(deadline, client.lookup(name, record_type)).await.map_err(|_| DnsError::Timeout)?;
    let lookup = match answer {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() => return Ok((Vec::new(), DNS_NEGATIVE_TTL)),
        Err(NetError::Timeout) => return Err(DnsError::Timeout),
        Err(error) => return Err(DnsError::Failed(error.to_string().into())),
    };
    // Each CNAME on the way has a TTL of its own; the shortest holds.
    let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    let addresses = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Ok((addresses.collect(), Duration::from_secs(seconds.into())))
}

/// The second family's answer: for a moment only if the first one brought addresses, else as long as it takes.
async fn other_family(first: &Family, other: impl Future<Output = Family>) -> Family {
    match first {
        Ok((addresses, _)) if !addresses.is_empty() => {
            timeout_at(Instant::now() + DNS_FAMILY_GRACE, other).await.unwrap_or(Err(DnsError::Timeout))
        }
        _ => other.await,
    }
}

fn combine(v4: Family, v6: Family) -> Family {
    let both = [v4, v6];
    let mut addresses = Vec::new();
    let mut ttl = Duration::MAX;
    let mut failure = None;
    for family in both {
        match family {
            Ok((found, holds)) if !found.is_empty() => {
                addresses.extend(found);
                ttl = ttl.min(holds);
            }
            Ok(_) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None if addresses.is_empty() => Err(DnsError::NoAddresses),
        None => Ok((addresses, ttl)),
        // Half an answer: good for now.
        Some(_) if !addresses.is_empty() => Ok((addresses, ttl.min(DNS_NEGATIVE_TTL))),
        Some(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
