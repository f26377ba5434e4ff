//! Properties of the pure core: the router agrees with a naive linear reading of the rules, the output doesn't depend on the order of the
//! input, and nothing that Kubernetes objects can hold makes it panic.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress},
    serde::de::DeserializeOwned,
};
use nodegate::{
    compile::{HostOwnership, Objects, Options, admit, compile},
    route::{Backend, BackendId, Builder, Endpoints, HostPattern, IngressId, PathPattern, Policy, Protocol, Route, Target},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

/// Elements chosen to confuse a radix tree: empty ones, matchit's own syntax, shared beginnings, escapes.
const ELEMENTS: [&str; 15] = ["a", "b", "ab", "abc", "", "", "{", "}", "{{", "{x}", "{*rest}", "*", "a%2Fb", "..", "é"];
const EXPRESSIONS: [&str; 5] = ["/a.*", "/(a|b)$", "/[ab]+/", "/ab", ".*c"];
static REGEXES: LazyLock<Vec<regex::Regex>> =
    LazyLock::new(|| EXPRESSIONS.iter().map(|source| regex::Regex::new(source).unwrap()).collect());
static COMPILED: LazyLock<HashMap<&str, PathPattern>> =
    LazyLock::new(|| EXPRESSIONS.iter().map(|source| (*source, PathPattern::expression(source, 1 << 20).unwrap())).collect());
const HOSTS: [&str; 6] = ["a.x.com", "b.x.com", "x.com", "a.b.x.com", "other.org", ""];
const PATTERNS: [&str; 6] = ["a.x.com", "x.com", "*.x.com", "*.b.x.com", "", "other.org"];

#[derive(Debug, Clone)]
struct Rule {
    host: &'static str,
    kind: Kind,
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Exact,
    Prefix,
    Expression,
    HostDefault,
    Otherwise,
}

fn path() -> impl Strategy<Value = String> {
    vec(select(&ELEMENTS[..]), 0..5).prop_map(|elements| format!("/{}", elements.join("/")))
}

fn rule() -> impl Strategy<Value = Rule> {
    let kind = prop_oneof![4 => Just(Kind::Exact), 8 => Just(Kind::Prefix), 1 => Just(Kind::Expression), 1 => Just(Kind::HostDefault), 1 => Just(Kind::Otherwise)];
    (select(&PATTERNS[..]), kind, path(), select(&EXPRESSIONS[..])).prop_map(|(host, kind, path, expression)| Rule {
        host,
        kind,
        path: if kind == Kind::Expression { expression.to_owned() } else { path },
    })
}

/// What wins, read straight off SEMANTICS: the best of all rules that match, the first of equals.
fn oracle(rules: &[Rule], host: &str, path: &str) -> Option<usize> {
    let matching = rules.iter().enumerate().filter(|(_, rule)| matches(rule, host, path));
    matching.min_by_key(|(index, rule)| (rank(rule), *index)).map(|(index, _)| index)
}

/// Smaller goes first.
fn rank(rule: &Rule) -> (u8, u8, u8, usize, &str) {
    let level = match rule.host {
        "" => 2,
        pattern if pattern.starts_with("*.") => 1,
        _ => 0,
    };
    match rule.kind {
        Kind::Exact => (0, level, 0, 0, ""),
        // `/foo/` is `/foo`.
        Kind::Prefix => (0, level, 1, usize::MAX - rule.path.strip_suffix('/').unwrap_or(&rule.path).len(), ""),
        Kind::Expression => (0, level, 2, usize::MAX - rule.path.len(), &rule.path),
        Kind::HostDefault => (1, level, 0, 0, ""),
        Kind::Otherwise => (2, 0, 0, 0, ""),
    }
}

fn matches(rule: &Rule, host: &str, path: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    let host_matches = match rule.host.strip_prefix("*.") {
        Some(parent) => labels.len() > 1 && labels[1..].join(".") == parent,
        None => rule.host.is_empty() || rule.host == host,
    };
    let path_matches = match rule.kind {
        Kind::Exact => rule.path == path,
        Kind::Prefix => {
            let wanted: Vec<&str> = rule.path.strip_suffix('/').unwrap_or(&rule.path).split('/').collect();
            path.split('/').collect::<Vec<_>>().starts_with(&wanted)
        }
        Kind::Expression => {
            let compiled = REGEXES.iter().find(|regex| regex.as_str() == rule.path).unwrap();
            compiled.find(path).is_some_and(|found| found.start() == 0)
        }
        Kind::HostDefault => true,
        Kind::Otherwise => return true,
    };
    host_matches && path_matches
}

fn route(index: usize) -> Arc<Route> {
    let id = BackendId { namespace: "n".into(), service: "s".into(), port: "80".into() };
    let backend = Arc::new(Backend { id, protocol: Protocol::Http1, target: Target::Endpoints, endpoints: Endpoints::Unknown });
    Arc::new(Route {
        ingress: Arc::new(IngressId { namespace: "n".into(), name: index.to_string().into() }),
        backend,
        policy: Policy::default(),
    })
}

fn build(rules: &[Rule]) -> nodegate::route::Snapshot {
    let mut builder = Builder::default();
    for (index, rule) in rules.iter().enumerate() {
        let (host, route): (HostPattern, _) = (rule.host.parse().unwrap(), route(index));
        // A place that is taken stays with who took it: so does the oracle's.
        let _ = match rule.kind {
            Kind::Exact => builder.path(&host, &PathPattern::exact(&rule.path), &route),
            Kind::Prefix => builder.path(&host, &PathPattern::prefix(&rule.path), &route),
            Kind::Expression => builder.path(&host, &COMPILED[&*rule.path], &route),
            Kind::HostDefault => builder.host_default(&host, &route),
            Kind::Otherwise => builder.otherwise(&route),
        };
    }
    builder.build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_router_agrees_with_a_naive_reading_of_the_rules(
        // Few for each host, which are tried one by one, and enough for trees.
        rules in prop_oneof![4 => vec(rule(), 0..14), 1 => vec(rule(), 40..100)],
        requests in vec((select(&HOSTS[..]), path()), 1..14),
    ) {
        let table = build(&rules);
        for (host, path) in &requests {
            let expected = oracle(&rules, host, path).map(|index| index.to_string());
            let explained = table.explain(host, path);
            prop_assert_eq!(explained.winner.as_ref().map(|(_, route)| route.ingress.name.to_string()), expected, "{}", explained);
        }
        // Every rule's own path too, and what is just beside it.
        let beside = |path: &String| [path.clone(), format!("{path}/"), format!("{path}x"), format!("{path}/x")];
        let own = rules.iter().flat_map(|rule| beside(&rule.path)).flat_map(|path| ["a.x.com", "other.org"].map(|host| (host, path.clone())));
        for (host, path) in own.chain(requests.iter().cloned()) {
            let expected = oracle(&rules, host, &path).map(|index| index.to_string());
            let found = table.find(host, &path).map(|route| route.ingress.name.to_string());
            prop_assert_eq!(&found, &expected, "{} {}\n{}", host, path, table.render());
        }
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// Values that are sensible, odd, or nonsense, for any text field.
fn text() -> impl Strategy<Value = &'static str> {
    select(
        &[
            "web",
            "api",
            "default",
            "shop",
            "nodegate",
            "",
            "Prefix",
            "Exact",
            "ImplementationSpecific",
            "/",
            "/a",
            "/a/",
            "/{*x}",
            "/a(",
            "/[a-z]+",
            "a.x.com",
            "*.x.com",
            "*",
            "10.0.0.1",
            "::1",
            "true",
            "endpoints",
            "ExternalName",
            "None",
            "10.43.0.1",
            "bücher.example",
            "\u{0}",
            "x-\u{202e}y",
            "IPv4",
            "https",
        ][..],
    )
}

/// An Ingress that an API server would mostly take, from few names, so that many conflict.
fn sensible_ingress() -> impl Strategy<Value = Value> {
    let names = (select(&["default", "shop"][..]), select(&["i1", "i2", "i3", "i4", "i5"][..]), 0..3_u8);
    let rule = (
        select(&PATTERNS[..]),
        select(&["Exact", "Prefix", "ImplementationSpecific"][..]),
        select(&["/", "/a", "/a/b", "/a(", "/a/"][..]),
        select(&["web", "gone"][..]),
    );
    (names, vec(rule, 0..4), any::<bool>(), any::<bool>()).prop_map(|((namespace, name, age), rules, regex, default)| {
        let rules: Vec<Value> = rules
            .into_iter()
            .map(|(host, kind, path, service)| {
                json!({"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": 80}}}}]}})
            })
            .collect();
        let created = if age == 0 { Value::Null } else { json!(format!("202{age}-01-01T00:00:00Z")) };
        let backend = if default { json!({"service": {"name": "web", "port": {"name": "http"}}}) } else { Value::Null };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created, "annotations": {"nodegate.dev/use-regex": regex.to_string()}},
            "spec": {"ingressClassName": "nodegate", "rules": rules, "defaultBackend": backend},
        })
    })
}

fn nonsense_ingress() -> impl Strategy<Value = Value> {
    let rule = (text(), text(), text(), text(), text(), any::<Option<i32>>()).prop_map(|(host, path, kind, service, port, number)| {
        json!({"host": host, "http": {"paths": [
            {"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"name": port, "number": number}}}},
            {"path": path, "pathType": "ImplementationSpecific", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            {"pathType": kind, "backend": {"resource": {"kind": kind, "name": service}}},
        ]}})
    });
    (text(), text(), vec(rule, 0..3), text(), text()).prop_map(|(namespace, name, rules, key, value)| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"namespace": namespace, "name": name, "annotations": {format!("nodegate.dev/{key}"): value, "nodegate.dev/use-regex": "true", "nodegate.dev/dial": value, format!("nginx.ingress.kubernetes.io/{key}"): value}},
            "spec": {"ingressClassName": "nodegate", "rules": rules, "tls": [{"hosts": [key]}]},
        })
    })
}

fn service() -> impl Strategy<Value = Value> {
    (text(), text(), text(), any::<i32>(), text(), text()).prop_map(|(namespace, kind, ip, port, external, protocol)| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "web"},
            "spec": {"type": kind, "clusterIP": ip, "clusterIPs": [ip, external], "externalName": external,
                "ports": [{"name": "http", "port": 80, "appProtocol": protocol}, {"port": port}]},
        })
    })
}

fn slice() -> impl Strategy<Value = Value> {
    (text(), text(), text(), any::<Option<i32>>(), any::<Option<bool>>()).prop_map(|(namespace, family, address, port, ready)| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"namespace": namespace, "name": address, "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready, "serving": true, "terminating": true}}, {"addresses": []}],
        })
    })
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(owned, authoritative, adopt)| Options {
        host_ownership: if owned { HostOwnership::Namespace } else { HostOwnership::Shared },
        endpoints_authoritative: authoritative,
        adopt_classless: adopt,
        ..Options::default()
    })
}

fn objects(ingresses: Vec<Value>, services: Vec<Value>, slices: Vec<Value>) -> Objects {
    Objects {
        ingresses: ingresses.into_iter().map(typed::<Ingress>).collect(),
        services: services.into_iter().map(typed::<Service>).collect(),
        slices: slices.into_iter().map(typed::<EndpointSlice>).collect(),
        ..Objects::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_output_does_not_depend_on_the_order_of_the_input(
        (ingresses, shuffled) in vec(sensible_ingress(), 0..8).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        (services, shuffled_services) in vec(service(), 0..4).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        (slices, shuffled_slices) in vec(slice(), 0..4).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        options in options(),
    ) {
        let one = compile(&objects(ingresses, services, slices), &options);
        let other = compile(&objects(shuffled, shuffled_services, shuffled_slices), &options);
        prop_assert_eq!(one.snapshot.render(), other.snapshot.render());
        prop_assert_eq!(one.snapshot.render_json(), other.snapshot.render_json());
        prop_assert!(one.snapshot == other.snapshot);
        prop_assert_eq!(one.diagnostics, other.diagnostics);
    }

    #[test]
    fn nothing_that_objects_can_hold_makes_it_panic(
        ingresses in vec(nonsense_ingress(), 0..4),
        services in vec(service(), 0..3),
        slices in vec(slice(), 0..3),
        options in options(),
        requests in vec((text(), text()), 0..6),
    ) {
        let objects = objects(ingresses, services, slices);
        let compiled = compile(&objects, &options);
        for ingress in &objects.ingresses {
            let _ = admit(ingress);
        }
        for (host, path) in requests {
            let found = compiled.snapshot.find(host, path).cloned();
            let explained = compiled.snapshot.explain(host, path);
            prop_assert_eq!(found, explained.winner.clone().map(|(_, route)| route), "{}", explained);
        }
        prop_assert!(serde_json::from_str::<Value>(&compiled.snapshot.render_json()).is_ok());
    }
}
