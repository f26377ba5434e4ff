//! Requests, and whose answer each has to get: a backend's by its name, or our own as status and reason.

use std::net::SocketAddr;

use anyhow::ensure;

use crate::{
    cluster::Cluster,
    http::{Answer, Client},
};

/// Host, path, answer.
pub type Case = (&'static str, &'static str, &'static str);

/// What stands for [`NOT_FOUND`] or [`FALLBACK`], whichever it is at the moment, where no rule matches.
const NOBODY: &str = "nobody";
/// Our own answer where there is no default backend.
pub const NOT_FOUND: &str = "404 no_route";
/// The default backend for all that nothing matches.
pub const FALLBACK: &str = "fallback";
const NO_BACKEND: &str = "503 bad_backend";

/// What never changes.
pub const ALWAYS: &[Case] = &[
    // Hosts: exact ones, wildcards of one label, none.
    ("api.wild.example", "/", "red"),
    ("one.wild.example", "/", "blue"),
    ("one.wild.example", "/any/path", "blue"),
    ("half.wild.example", "/half", "red"),
    ("half.wild.example", "/other", "blue"),
    ("half.wild.example", "/everywhere", "blue"),
    ("a.b.wild.example", "/", NOBODY),
    ("b.api.wild.example", "/", NOBODY),
    ("wild.example", "/", NOBODY),
    ("notwild.example", "/", NOBODY),
    ("API.Wild.EXAMPLE", "/", "red"),
    ("api.wild.example:80", "/", "red"),
    ("api.wild.example:8080", "/", "red"),
    ("api.wild.example.", "/", "red"),
    ("ONE.wild.example.:80", "/", "blue"),
    ("nobody.example", "/", NOBODY),
    ("nobody.example", "/everywhere", "green"),
    ("nobody.example", "/everywhere/else", "green"),
    ("nobody.example", "/everywhereelse", NOBODY),
    ("198.51.100.11", "/", NOBODY),
    ("198.51.100.11", "/everywhere", "green"),
    // Paths of all types; an element at a time, exact ones first, then the longest.
    ("paths.example", "/", NOBODY),
    ("paths.example", "/foo", "red"),
    ("paths.example", "/foo?bar=/foo/bar", "red"),
    ("paths.example", "/foo/", "green"),
    ("paths.example", "/foo/x", "green"),
    ("paths.example", "/foobar", NOBODY),
    ("paths.example", "/foo.html", NOBODY),
    ("paths.example", "/FOO", NOBODY),
    ("paths.example", "/foo/bar", "blue"),
    ("paths.example", "/foo/bar/", "blue"),
    ("paths.example", "/foo/bar/x", "blue"),
    ("paths.example", "/foo/barn", "green"),
    ("paths.example", "/foo//bar", "green"),
    ("paths.example", "/%66oo", "red"),
    ("paths.example", "/x/../foo/./bar", "blue"),
    ("paths.example", "/foo%2Fbar", NOBODY),
    ("paths.example", "/%00", "400 bad_request"),
    ("paths.example", "/../foo", "400 bad_request"),
    ("paths.example", "/exact", "red"),
    ("paths.example", "/exact/", NOBODY),
    ("paths.example", "/exact/x", NOBODY),
    ("paths.example", "/slash/", "blue"),
    ("paths.example", "/slash", NOBODY),
    ("paths.example", "/free", "blue"),
    ("paths.example", "/free/", "blue"),
    ("paths.example", "/free/x", "blue"),
    ("paths.example", "/freedom", NOBODY),
    ("paths.example", "/v1/items", "green"),
    ("paths.example", "/v12/items", "green"),
    ("paths.example", "/v1/items/3", NOBODY),
    ("paths.example", "/x/v1/items", NOBODY),
    ("paths.example", "/everywhere", "green"),
    // The default backend of an Ingress with rules, after the rules without a host.
    ("default.example", "/app", "red"),
    ("default.example", "/app/x", "red"),
    ("default.example", "/application", "blue"),
    ("default.example", "/", "blue"),
    ("default.example", "/everywhere", "green"),
    // Classes.
    ("annotation.example", "/", "green"),
    ("classless.example", "/", "blue"),
    ("another.example", "/", NOBODY),
    ("no-class.example", "/", NOBODY),
    ("no-class-by-annotation.example", "/", NOBODY),
    ("misspelt.example", "/", NOBODY),
    // Backends. What can't be dialled doesn't fall through to the path /.
    ("backends.example", "/", "red"),
    ("backends.example", "/number", "green"),
    ("backends.example", "/other-number", "blue"),
    ("backends.example", "/name", "blue"),
    ("backends.example", "/external", "red"),
    ("backends.example", "/no-such-name", NO_BACKEND),
    ("backends.example", "/no-such-number", NO_BACKEND),
    ("backends.example", "/resource", NO_BACKEND),
];

/// At first.
pub const FIRST: &[Case] = &[
    ("backends.example", "/missing", NO_BACKEND),
    ("backends.example", "/late", "503 no_endpoints"),
    ("classless-later.example", "/", NOBODY),
    ("contested.example", "/", "red"),
    ("edited.example", "/before", "green"),
    ("edited.example", "/after", NOBODY),
];

/// After what comes second, and an edit of `edited`.
pub const SECOND: &[Case] = &[
    ("backends.example", "/missing", "green"),
    ("backends.example", "/late", "late"),
    ("classless-later.example", "/", "blue"),
    ("contested.example", "/", "red"),
    ("edited.example", "/before", NOBODY),
    ("edited.example", "/after", "green"),
];

/// After the winner of the contest, the default backend and `edited` were deleted.
pub const THIRD: &[Case] = &[
    ("backends.example", "/missing", "green"),
    ("backends.example", "/late", "late"),
    ("classless-later.example", "/", "blue"),
    ("contested.example", "/", "blue"),
    ("edited.example", "/before", NOBODY),
    ("edited.example", "/after", NOBODY),
];

/// Sends what is always the same and `now` to one node, on one connection; `nobody` is the answer where no rule matches. Fails with every request that
/// is answered otherwise. Returns how many there were.
pub fn through(cluster: &Cluster, door: SocketAddr, now: &[Case], nobody: &str) -> anyhow::Result<usize> {
    let (mut count, mut differ) = (0, String::new());
    cluster.internet.within_async(async || {
        let mut client = Client::new(door);
        for &(host, path, expected) in ALWAYS.iter().chain(now) {
            count += 1;
            let expected = if expected == NOBODY { nobody } else { expected };
            let seen = client.get(host, path, &[]).await.map_or_else(|error| format!("{error:#}"), |answer| whose(&answer));
            if seen != expected {
                differ += &format!("\n  {host}{path}: expected {expected}, but saw {seen}");
            }
        }
    });
    ensure!(differ.is_empty(), "{door}:{differ}");
    Ok(count)
}

/// A backend's name, or our status and reason.
fn whose(answer: &Answer) -> String {
    let reason = answer.headers.get("x-nodegate-reason").map(|reason| String::from_utf8_lossy(reason.as_bytes()));
    match (answer.status, answer.backend(), reason) {
        (200, Some(backend), None) => backend,
        (status, None, Some(reason)) => format!("{status} {reason}"),
        _ => answer.to_string(),
    }
}
