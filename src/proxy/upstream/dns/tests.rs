//! The resolver against a DNS server on loopback.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use hickory_resolver::{
    config::ResolveHosts,
    proto::{
        op::{Message, OpCode, ResponseCode},
        rr::{
            Record,
            rdata::{A, AAAA, CNAME},
        },
    },
};
use tokio::{net::UdpSocket, sync::Notify};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How a server answers one query: records, a refusal, or not at all.
type Script = fn(&Name, RecordType) -> Option<Result<Vec<Record>, ResponseCode>>;

struct Server {
    address: SocketAddr,
    queries: Arc<AtomicUsize>,
    /// Answers while not set to fail.
    failing: Arc<std::sync::atomic::AtomicBool>,
    /// Says that there is no such name, of any.
    gone: Arc<std::sync::atomic::AtomicBool>,
    /// Told of each query that the script leaves without an answer.
    ignored: Arc<Notify>,
}

impl Server {
    async fn start(script: Script) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = Self { address, queries: Arc::default(), failing: Arc::default(), gone: Arc::default(), ignored: Arc::default() };
        let (queries, failing, gone, ignored) =
            (server.queries.clone(), server.failing.clone(), server.gone.clone(), server.ignored.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                queries.fetch_add(1, Ordering::SeqCst);
                let asked = query.queries[0].clone();
                let answer = if failing.load(Ordering::SeqCst) {
                    Some(Err(ResponseCode::ServFail))
                } else if gone.load(Ordering::SeqCst) {
                    Some(Err(ResponseCode::NXDomain))
                } else {
                    script(asked.name(), asked.query_type())
                };
                let Some(answer) = answer else {
                    ignored.notify_one();
                    continue;
                };
                let mut response = Message::response(query.metadata.id, OpCode::Query);
                response.add_query(asked);
                match answer {
                    Ok(records) => drop(response.add_answers(records)),
                    Err(code) => response.metadata.response_code = code,
                }
                socket.send_to(&response.to_vec().unwrap(), client).await.unwrap();
            }
        });
        server
    }

    fn resolver(&self) -> Resolver {
        let mut server = NameServerConfig::udp(self.address.ip());
        server.connections.iter_mut().for_each(|connection| connection.port = self.address.port());
        let mut options = ResolverOpts::default();
        options.use_hosts_file = ResolveHosts::Never;
        Resolver::with_config(ResolverConfig::from_name_servers(vec![server]), options)
    }

    fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

fn v4(name: &Name, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name.clone(), ttl, RData::A(A::new(192, 0, 2, last)))
}

fn v6(name: &Name, ttl: u32) -> Record {
    Record::from_rdata(name.clone(), ttl, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)))
}

fn addresses(texts: &[&str]) -> Arc<[IpAddr]> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The first label of the name says what is answered.
fn scripted(name: &Name, asked: RecordType) -> Option<Result<Vec<Record>, ResponseCode>> {
    let text = name.to_ascii().to_ascii_lowercase();
    let records = match (text.split('.').next().unwrap(), asked) {
        ("both", RecordType::A) => vec![v4(name, 60, 1), v4(name, 60, 2)],
        ("both" | "six", RecordType::AAAA) => vec![v6(name, 60)],
        ("four" | "half", RecordType::A) => vec![v4(name, 60, 1)],
        ("short", RecordType::A) => vec![v4(name, 20, 1)],
        ("short", RecordType::AAAA) => vec![v6(name, 10)],
        ("alias", RecordType::A) => {
            let target = Name::from_ascii("target.example.").unwrap();
            vec![Record::from_rdata(name.clone(), 10, RData::CNAME(CNAME(target.clone()))), v4(&target, 60, 3)]
        }
        ("silent", _) | ("half", RecordType::AAAA) => return None,
        ("missing", _) => return Some(Err(ResponseCode::NXDomain)),
        ("broken", _) => return Some(Err(ResponseCode::ServFail)),
        _ => vec![],
    };
    Some(Ok(records))
}

#[tokio::test]
async fn addresses_of_both_families_are_found() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    for (host, expected) in [
        ("both.example", Ok(addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]))),
        ("four.example", Ok(addresses(&["192.0.2.1"]))),
        ("six.example", Ok(addresses(&["2001:db8::1"]))),
        ("alias.example", Ok(addresses(&["192.0.2.3"]))),
        ("empty.example", Err(DnsError::NoAddresses)),
        ("missing.example", Err(DnsError::NoAddresses)),
        ("a..b", Err(DnsError::Name("a..b".into()))),
    ] {
        assert_eq!(resolver.resolve(host).await, expected, "{host}");
    }
    assert!(matches!(resolver.resolve("broken.example").await, Err(DnsError::Failed(_))));
}

#[tokio::test]
async fn addresses_need_no_server() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    for host in ["192.0.2.9", "2001:db8::9"] {
        assert_eq!(resolver.resolve(host).await, Ok(addresses(&[host])));
    }
    assert_eq!(server.queries(), 0);
}

#[tokio::test]
async fn answers_are_kept_for_the_shortest_ttl() {
    for (host, ttl) in [("four.example", 60), ("short.example", 10), ("alias.example", 10)] {
        let server = Server::start(scripted).await;
        let resolver = server.resolver();
        let start = Instant::now();
        let first = resolver.resolve_at(host, start).await;
        let asked = server.queries();
        assert_eq!(resolver.resolve_at(host, start + (ttl - 1) * SECOND).await, first, "{host}");
        assert_eq!(server.queries(), asked, "{host}: still current");
        assert_eq!(resolver.resolve_at(host, start + ttl * SECOND).await, first, "{host}");
        assert!(server.queries() > asked, "{host}: asked again");
    }
}

#[tokio::test]
async fn missing_names_are_remembered_briefly() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    let start = Instant::now();
    for host in ["missing.example", "broken.example"] {
        resolver.resolve_at(host, start).await.unwrap_err();
        let asked = server.queries();
        resolver.resolve_at(host, start + DNS_NEGATIVE_TTL - SECOND).await.unwrap_err();
        assert_eq!(server.queries(), asked, "{host}: remembered");
        resolver.resolve_at(host, start + DNS_NEGATIVE_TTL).await.unwrap_err();
        assert!(server.queries() > asked, "{host}: asked again");
    }
}

#[tokio::test]
async fn older_answer_serves_while_the_server_fails() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    let start = Instant::now();
    let first = resolver.resolve_at("four.example", start).await;
    server.failing.store(true, Ordering::SeqCst);
    assert_eq!(resolver.resolve_at("four.example", start + 61 * SECOND).await, first);
    let asked = server.queries();
    assert_eq!(resolver.resolve_at("four.example", start + 62 * SECOND).await, first);
    assert_eq!(server.queries(), asked, "a failing server isn't asked for every request");
    let too_late = start + 61 * SECOND + crate::config::limits::DNS_STALE_MAX;
    assert!(matches!(resolver.resolve_at("four.example", too_late).await, Err(DnsError::Failed(_))));
}

#[tokio::test]
async fn one_family_is_enough_when_the_other_stays_silent() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    let start = Instant::now();
    assert_eq!(resolver.resolve_at("half.example", start).await, Ok(addresses(&["192.0.2.1"])));
    assert!(start.elapsed() < DNS_TIMEOUT, "took {:?}", start.elapsed());
    let asked = server.queries();
    assert_eq!(resolver.resolve_at("half.example", start + DNS_NEGATIVE_TTL).await, Ok(addresses(&["192.0.2.1"])));
    assert!(server.queries() > asked, "half an answer is asked for again soon");
}

#[tokio::test]
async fn silent_server_is_given_up_at_the_deadline() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    let start = Instant::now();
    assert_eq!(resolver.resolve_at("silent.example", start).await, Err(DnsError::Timeout));
    assert!(start.elapsed() < DNS_TIMEOUT + SECOND, "took {:?}", start.elapsed());
    assert!(server.queries() >= 4, "each family is asked for a second time");
}

#[tokio::test]
async fn requests_for_one_name_share_one_lookup() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    let answers = futures_util::future::join_all((0..50).map(|_| resolver.resolve("both.example"))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]))));
    assert_eq!(server.queries(), 2);
}

#[tokio::test]
async fn abandoned_lookup_does_not_hold_up_the_next() {
    let server = Server::start(scripted).await;
    let resolver = Arc::new(server.resolver());
    let abandoned = tokio::spawn({
        let resolver = Arc::clone(&resolver);
        async move { resolver.resolve("silent.example").await }
    });
    server.ignored.notified().await;
    abandoned.abort();
    abandoned.await.unwrap_err();
    assert_eq!(resolver.resolve("four.example").await, Ok(addresses(&["192.0.2.1"])));
    assert_eq!(resolver.resolve("silent.example").await, Err(DnsError::Timeout), "asked anew");
}

#[tokio::test]
async fn clone_has_a_cache_of_its_own() {
    let server = Server::start(scripted).await;
    let resolver = server.resolver();
    let first = resolver.resolve("four.example").await;
    let asked = server.queries();
    assert_eq!(resolver.clone().resolve("four.example").await, first);
    assert_eq!(server.queries(), 2 * asked);
}

#[tokio::test]
async fn what_one_clone_was_told_serves_another_while_the_server_fails() {
    let server = Server::start(scripted).await;
    let (resolver, start) = (server.resolver(), Instant::now());
    let (told, other) = (resolver.clone(), resolver.clone());
    let first = told.resolve_at("four.example", start).await;
    assert_eq!(first, Ok(addresses(&["192.0.2.1"])));
    server.failing.store(true, Ordering::SeqCst);
    // Within the answer's TTL and after it.
    for (clone, at) in [(&other, start + SECOND), (&resolver, start + 61 * SECOND)] {
        assert_eq!(clone.resolve_at("four.example", at).await, first);
        let asked = server.queries();
        assert_eq!(clone.resolve_at("four.example", at + SECOND).await, first);
        assert_eq!(server.queries(), asked, "a failing server isn't asked for every request");
    }
    assert!(matches!(other.resolve_at("six.example", start).await, Err(DnsError::Failed(_))), "a name that none has met");
    let too_late = start + 60 * SECOND + crate::config::limits::DNS_STALE_MAX;
    assert!(matches!(resolver.clone().resolve_at("four.example", too_late).await, Err(DnsError::Failed(_))));
}

#[tokio::test]
async fn what_one_clone_hears_is_gone_serves_no_other() {
    let server = Server::start(scripted).await;
    let (resolver, start) = (server.resolver(), Instant::now());
    let clone = resolver.clone();
    resolver.resolve_at("four.example", start).await.unwrap();
    server.gone.store(true, Ordering::SeqCst);
    assert_eq!(resolver.resolve_at("four.example", start + 61 * SECOND).await, Err(DnsError::NoAddresses));
    server.failing.store(true, Ordering::SeqCst);
    assert!(matches!(clone.resolve_at("four.example", start + 62 * SECOND).await, Err(DnsError::Failed(_))));
}
