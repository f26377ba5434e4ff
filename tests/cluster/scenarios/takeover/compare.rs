//! The same requests through both proxies: what each answers, and where it sent them.

use std::{fmt, net::SocketAddr};

use anyhow::ensure;

use crate::{
    cluster::Cluster,
    http::{Answer, Client},
};

/// A request that both have to send to the same backend: host, path, status, backend (none: the proxy answers itself).
type Case = (&'static str, &'static str, Seen);
/// A status and the name of a backend.
type Seen = (u16, Option<&'static str>);

const API: Seen = (200, Some("api"));
const WEB: Seen = (200, Some("web"));
const FALLBACK: Seen = (200, Some("fallback"));

const SAME: &[Case] = &[
    ("shop.example", "/", WEB),
    ("shop.example", "/cart?id=1", WEB),
    ("shop.example", "/api", API),
    ("shop.example", "/api/", API),
    ("shop.example", "/api/v1/items", API),
    ("shop.example", "/API", WEB),
    ("shop.example", "/healthz", API),
    ("shop.example", "/healthz/", WEB),
    ("shop.example", "/old", API),
    ("shop.example", "/old/page", API),
    ("shop.example", "/cart/../api", API),
    ("SHOP.example", "/api", API),
    ("shop.example:80", "/api", API),
    ("shop.example.", "/api", API),
    ("one.apps.example", "/", WEB),
    ("api.apps.example", "/", API),
    ("one.two.apps.example", "/", FALLBACK),
    ("apps.example", "/", FALLBACK),
    ("annotation.example", "/", API),
    ("classless.example", "/", WEB),
    ("annotated.example", "/", WEB),
    ("other.example", "/", FALLBACK),
    ("nobody.example", "/", FALLBACK),
    ("198.51.100.11", "/", FALLBACK),
];

/// Where they differ by design, as docs/migrate-from-traefik.md says: host, path, Traefik's answer, Nodegate's.
const DIFFERENT: &[(&str, &str, Seen, Seen)] = &[
    ("shop.example", "/apiary", API, WEB),
    ("shop.example", "/ok", WEB, API),
    ("broken.example", "/", FALLBACK, (503, None)),
    ("guarded.example", "/", FALLBACK, (503, None)),
];

/// What `nodegate check` has to say about them.
pub const FINDINGS: &[&str] = &["router.priority", "takeover-shop/broken", "takeover-shop/guarded"];

/// A request that was answered otherwise than expected.
struct Unlike {
    host: &'static str,
    path: &'static str,
    expected: Seen,
    seen: (u16, Option<String>),
}

/// Whose answer it is: the sample backend doesn't call itself anything, and Traefik leaves that so.
pub fn is_nodegate(answer: &Answer) -> bool {
    answer.headers.get("server").is_some_and(|server| server == "nodegate")
}

/// Fails with every request that Traefik answers otherwise than it should.
pub fn traefik(cluster: &Cluster, address: SocketAddr) -> anyhow::Result<()> {
    let different = DIFFERENT.iter().map(|&(host, path, traefik, _)| (host, path, traefik));
    through(cluster, "Traefik", address, SAME.iter().copied().chain(different))
}

/// Fails with every request that Nodegate answers otherwise than it should.
pub fn nodegate(cluster: &Cluster, address: SocketAddr) -> anyhow::Result<()> {
    let different = DIFFERENT.iter().map(|&(host, path, _, nodegate)| (host, path, nodegate));
    through(cluster, "Nodegate", address, SAME.iter().copied().chain(different))
}

fn through(cluster: &Cluster, proxy: &str, address: SocketAddr, cases: impl Iterator<Item = Case> + Send) -> anyhow::Result<()> {
    let unlike = cluster.internet.within_async(async || {
        let (mut unlike, mut client) = (Vec::new(), Client::new(address));
        for (host, path, expected) in cases {
            let answer = client.get(host, path, &[]).await?;
            ensure!(is_nodegate(&answer) == (proxy == "Nodegate"), "{address}: {proxy} should answer {host}{path}: {answer}");
            let seen = (answer.status, answer.backend());
            if (seen.0, seen.1.as_deref()) != expected {
                unlike.push(Unlike { host, path, expected, seen });
            }
        }
        anyhow::Ok(unlike)
    })?;
    let lines: Vec<String> = unlike.iter().map(ToString::to_string).collect();
    ensure!(unlike.is_empty(), "{proxy} at {address}:\n  {}", lines.join("\n  "));
    Ok(())
}

impl fmt::Display for Unlike {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, path, expected, seen } = self;
        write!(formatter, "{host}{path}: expected {expected:?}, but saw {seen:?}")
    }
}
