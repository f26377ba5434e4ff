//! The same requests through both proxies: what each answers, where it sent them, and what it told the backend.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

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
    ("shop.example", "/cart//1?a=b;c", WEB),
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

/// Header fields of every request: those of a browser, and what a client may not claim.
const FIELDS: &[(&str, &str)] = &[
    ("accept", "text/html"),
    ("accept-encoding", "br"),
    ("cookie", "session=1; theme=dark"),
    ("user-agent", "takeover"),
    ("x-custom", "kept"),
    ("connection", "keep-alive, x-hop"),
    ("x-hop", "between client and proxy"),
    ("x-forwarded-for", "192.0.2.66"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "elsewhere.example"),
    ("x-forwarded-port", "9999"),
    ("x-real-ip", "192.0.2.66"),
];

/// What only one of them tells, or each in its own way, as docs/migrate-from-traefik.md says: header fields.
const TOLD_OTHERWISE: &[&str] = &["x-forwarded-server", "x-request-id"];
/// What else of the account isn't about the request: who answered, and from where the proxy has connected.
const NOT_TOLD: &[&str] = &["backend", "peer"];

/// What backends were told, by host and path, without what is known to differ: a line for each header field, and for the rest of the request.
pub type Accounts = BTreeMap<(&'static str, &'static str), BTreeSet<String>>;

/// A request that both send to the same backend, and not as the same one: host, path, what of it is only in Traefik's account, and what in Nodegate's.
const REWRITTEN: (&str, &str, &str, &str) = ("shop.example", "/cart//1?a=b;c", r#"uri "/cart/1?a=b&c""#, r#"uri "/cart//1?a=b;c""#);

/// What `nodegate check` has to say about these Ingresses: all of it, each line's beginning.
pub const FINDINGS: &[&str] = &[
    "warning[unsupported_annotation] Ingress takeover-shop/annotated ",
    "error[unknown_service] Ingress takeover-shop/broken ",
    "error[unsupported_protection] Ingress takeover-shop/guarded ",
];

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

/// Fails with every request that Traefik answers otherwise than it should. What it told the backends.
pub fn traefik(cluster: &Cluster, address: SocketAddr) -> anyhow::Result<Accounts> {
    let different = DIFFERENT.iter().map(|&(host, path, traefik, _)| (host, path, traefik));
    through(cluster, "Traefik", address, SAME.iter().copied().chain(different))
}

/// Fails with every request that Nodegate answers otherwise than it should, or of which it tells a backend something else than Traefik.
pub fn nodegate(cluster: &Cluster, address: SocketAddr, traefik: &Accounts) -> anyhow::Result<()> {
    let different = DIFFERENT.iter().map(|&(host, path, _, nodegate)| (host, path, nodegate));
    let told = through(cluster, "Nodegate", address, SAME.iter().copied().chain(different))?;
    let mut unlike = String::new();
    for &(host, path, _) in SAME {
        let (theirs, ours) = (&traefik[&(host, path)], &told[&(host, path)]);
        let only: (Vec<_>, Vec<_>) =
            (theirs.difference(ours).map(String::as_str).collect(), ours.difference(theirs).map(String::as_str).collect());
        let known = if (host, path) == (REWRITTEN.0, REWRITTEN.1) { (vec![REWRITTEN.2], vec![REWRITTEN.3]) } else { Default::default() };
        if only != known {
            unlike += &format!("\n  {host}{path}: only Traefik says {:?}, only Nodegate {:?}", only.0, only.1);
        }
    }
    ensure!(unlike.is_empty(), "Nodegate at {address} doesn't tell backends the same:{unlike}");
    Ok(())
}

fn through(cluster: &Cluster, proxy: &str, address: SocketAddr, cases: impl Iterator<Item = Case> + Send) -> anyhow::Result<Accounts> {
    let (unlike, told) = cluster.internet.within_async(async || {
        let (mut unlike, mut told, mut client) = (Vec::new(), Accounts::new(), Client::new(address));
        for (host, path, expected) in cases {
            let answer = client.get(host, path, FIELDS).await?;
            ensure!(is_nodegate(&answer) == (proxy == "Nodegate"), "{address}: {proxy} should answer {host}{path}: {answer}");
            let seen = (answer.status, answer.backend());
            if (seen.0, seen.1.as_deref()) != expected {
                unlike.push(Unlike { host, path, expected, seen });
            } else if expected.1.is_some() {
                told.insert((host, path), account(&answer, address.port()).with_context(|| format!("{proxy} at {address}: {host}{path}"))?);
            }
        }
        anyhow::Ok((unlike, told))
    })?;
    let lines: Vec<String> = unlike.iter().map(ToString::to_string).collect();
    ensure!(unlike.is_empty(), "{proxy} at {address}:\n  {}", lines.join("\n  "));
    Ok(told)
}

/// The backend's account of a request to a port, which both name truly: a line for each header field, and for the rest of it.
fn account(answer: &Answer, port: u16) -> anyhow::Result<BTreeSet<String>> {
    let account: serde_json::Map<String, Value> = serde_json::from_str(&answer.body)?;
    let mut told = BTreeSet::new();
    for (name, value) in account {
        match (name.as_str(), value) {
            ("headers", Value::Array(fields)) => {
                ensure!(fields.contains(&json!(["x-forwarded-port", port.to_string()])), "not port {port}: {fields:?}");
                let known = |field: &&Value| field[0] == "x-forwarded-port" || TOLD_OTHERWISE.iter().any(|name| field[0] == **name);
                told.extend(fields.iter().filter(|field| !known(field)).map(|field| format!("header {field}")));
            }
            (name, value) if !NOT_TOLD.contains(&name) => drop(told.insert(format!("{name} {value}"))),
            _ => {}
        }
    }
    Ok(told)
}

impl fmt::Display for Unlike {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, path, expected, seen } = self;
        write!(formatter, "{host}{path}: expected {expected:?}, but saw {seen:?}")
    }
}
