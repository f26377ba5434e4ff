//! Compiling after a change gives what compiling everything gives, and costs what the change concerns.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's panic is its failure")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use nodegate::{
    compile::{Compiled, Delta, Diagnostic, Edit, HostOwnership, Incremental, Objects, Options, compile},
    route::IngressId,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use in_force::{InForce, held};
use issued::{Issued, issue};

mod in_force;

#[path = "../support/issued.rs"]
mod issued;

/// The objects of a moment, by what tells them apart: those that don't change stay where they are in memory.
#[derive(Debug, Clone, Default)]
struct Cluster {
    ingresses: BTreeMap<String, Arc<Ingress>>,
    services: BTreeMap<String, Arc<Service>>,
    slices: BTreeMap<String, Arc<EndpointSlice>>,
    classes: BTreeMap<String, Arc<IngressClass>>,
    secrets: BTreeMap<String, Arc<Secret>>,
}

impl Cluster {
    fn objects(&self) -> Objects {
        Objects {
            ingresses: self.ingresses.values().cloned().collect(),
            services: self.services.values().cloned().collect(),
            slices: self.slices.values().cloned().collect(),
            classes: self.classes.values().cloned().collect(),
            secrets: self.secrets.values().cloned().collect(),
        }
    }

    /// As after a list: the same objects, elsewhere in memory, and of another version.
    fn reread(&mut self) {
        fn anew<T: Clone>(map: &mut BTreeMap<String, Arc<T>>) {
            for object in map.values_mut() {
                *object = Arc::new((**object).clone());
            }
        }
        anew(&mut self.ingresses);
        anew(&mut self.services);
        anew(&mut self.slices);
        anew(&mut self.classes);
        anew(&mut self.secrets);
        for ingress in self.ingresses.values_mut() {
            let ingress = Arc::make_mut(ingress);
            ingress.metadata.resource_version = Some("2".to_owned());
            ingress.status = Some(serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}})).unwrap());
        }
    }

    /// Puts an object in the place of the one that had its name; one that says so takes it away.
    fn apply(&mut self, object: &Value) {
        fn put<T: DeserializeOwned>(map: &mut BTreeMap<String, Arc<T>>, object: &Value) {
            let name = format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"]);
            if object["deleted"] == true {
                map.remove(&name);
            } else {
                map.insert(name, Arc::new(serde_json::from_value(object.clone()).unwrap()));
            }
        }
        match object["kind"].as_str().unwrap() {
            "Ingress" => put(&mut self.ingresses, object),
            "Service" => put(&mut self.services, object),
            "EndpointSlice" => put(&mut self.slices, object),
            "IngressClass" => put(&mut self.classes, object),
            "Secret" => put(&mut self.secrets, object),
            "Reread" => self.reread(),
            other => panic!("{other}"),
        }
    }
}

/// What has become of the objects of one kind from one moment to the next.
fn edits<T>(before: &BTreeMap<String, Arc<T>>, now: &BTreeMap<String, Arc<T>>) -> Vec<Edit<T>> {
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| {
        // `null` is how an object without a namespace is called here.
        let part = |part: &str| Arc::from(serde_json::from_str::<Option<String>>(part).unwrap().unwrap_or_default());
        let (namespace, name) = name.split_once('/').unwrap();
        Edit::Remove { namespace: part(namespace), name: part(name) }
    });
    let other = now.iter().filter(|(name, object)| before.get(*name).is_none_or(|before| !Arc::ptr_eq(before, object)));
    gone.chain(other.map(|(_, object)| Edit::Put(Arc::clone(object)))).collect()
}

/// Follows a cluster from moment to moment.
struct Follower {
    incremental: Incremental,
    seen: Cluster,
    now: Timestamp,
    /// What was in force before it was there, for its next turn.
    earlier: Vec<Arc<Ingress>>,
    /// What it has made of that, put together.
    last: Compiled,
    /// How many Ingresses it looked at for it.
    compiled: usize,
}

impl Follower {
    fn new(options: Options) -> Self {
        Self {
            incremental: Incremental::new(options),
            seen: Cluster::default(),
            now: Timestamp::UNIX_EPOCH,
            earlier: Vec::new(),
            last: Compiled::default(),
            compiled: 0,
        }
    }

    fn compile(&mut self, cluster: &Cluster) -> &Compiled {
        let before = std::mem::replace(&mut self.seen, cluster.clone());
        let delta = Delta {
            ingresses: edits(&before.ingresses, &cluster.ingresses),
            classes: edits(&before.classes, &cluster.classes),
            services: edits(&before.services, &cluster.services),
            slices: edits(&before.slices, &cluster.slices),
            secrets: edits(&before.secrets, &cluster.secrets),
            earlier: std::mem::take(&mut self.earlier),
        };
        let update = self.incremental.compile(delta, &self.last.snapshot, self.now);
        assert!(update.snapshot.as_ref() != Some(&self.last.snapshot), "called another one, and is the same");
        if let Some(snapshot) = update.snapshot {
            self.last.snapshot = snapshot;
        }
        (self.last.diagnostics, self.compiled) = (update.diagnostics, update.compiled);
        let id = |ingress: &Ingress| {
            let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap());
            Arc::new(IngressId { namespace: text(&ingress.metadata.namespace), name: text(&ingress.metadata.name) })
        };
        self.last.accepted =
            self.incremental.ingresses().filter(|standing| standing.accepted).map(|standing| id(standing.newest)).collect();
        &self.last
    }
}

/// Few enough for conflicts, and enough for most to have nothing to do with each other.
fn host() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        20 => (0..30_u8).prop_map(|number| Some(format!("h{number}.example"))),
        2 => (0..3_u8).prop_map(|number| Some(format!("a.deep{number}.example"))),
        2 => (0..3_u8).prop_map(|number| Some(format!("*.deep{number}.example"))),
        1 => Just(Some("*.example".to_owned())),
        1 => Just(Some("no host".to_owned())),
        1 => Just(None),
    ]
}

fn namespace() -> impl Strategy<Value = &'static str> {
    select(&["default", "shop"][..])
}

fn ingress() -> impl Strategy<Value = Value> {
    let service = prop_oneof![12 => (0..6_u8).prop_map(|number| format!("s{number}")), 1 => Just(String::new())];
    let kinds = prop_oneof![9 => select(&["Exact", "Prefix", "ImplementationSpecific"][..]), 1 => Just("Bad")];
    let paths = prop_oneof![9 => select(&["/", "/a", "/a/b"][..]), 1 => Just("/a("), 1 => Just("no")];
    let rule = (host(), kinds, paths, service, prop_oneof![5 => Just(80), 1 => Just(81)]);
    let which =
        (namespace(), 0..12_u8, 0..3_u8, prop_oneof![8 => Just("nodegate"), 1 => Just("other"), 1 => Just("nodegat"), 1 => Just("")]);
    let tls = vec((0..3_u8, prop::option::of(host())), 0..3);
    let dial = prop_oneof![3 => Just("endpoints"), 3 => Just("clusterip"), 1 => Just("wrong")];
    (which, vec(rule, 0..3), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1), tls, dial).prop_map(
        |((namespace, name, age, class), rules, regex, default, deleted, tls, dial)| {
            let tls: Vec<_> = tls.into_iter().map(|(secret, host)| json!({"secretName": format!("c{secret}"), "hosts": host.map(|host| vec![host.unwrap_or_default()])})).collect();
            let rules: Vec<_> = rules
                .into_iter()
                .map(|(host, kind, path, service, port)| {
                    json!({"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": port}}}}]}})
                })
                .collect();
            let created = if age == 0 { Value::Null } else { json!(format!("202{age}-01-01T00:00:00Z")) };
            let backend = if default { json!({"service": {"name": "s0", "port": {"name": "http"}}}) } else { Value::Null };
            let annotations = json!({"nodegate.dev/use-regex": regex.to_string(), "nodegate.dev/dial": dial,
                "nodegate.dev/backend-protocol": if name == 1 && age == 1 { "https" } else { "h2c" }, "nodegate.dev/backend-ca-secret": format!("c{}", name % 4)});
            json!({
                "kind": "Ingress", "deleted": deleted,
                "metadata": {"namespace": namespace, "name": format!("i{name}"), "creationTimestamp": created, "annotations": annotations},
                "spec": {"ingressClassName": class, "rules": rules, "tls": tls, "defaultBackend": backend},
            })
        },
    )
}

/// Good ones alone, and once there, there for ever: of others, what was there before matters.
fn secret() -> impl Strategy<Value = Value> {
    static CERTIFICATES: LazyLock<Vec<Issued>> = LazyLock::new(|| (0..4).map(|_| certificate()).collect());
    (namespace(), 0..3_u8, 0..4_usize).prop_map(|(namespace, name, which)| CERTIFICATES[which].secret(namespace, &format!("c{name}")))
}

fn certificate() -> Issued {
    issue(&rcgen::PKCS_ECDSA_P256_SHA256, &["h1.example"])
}

fn change() -> impl Strategy<Value = Value> {
    let service =
        (namespace(), 0..6_u8, select(&["10.43.0.1", "10.43.0.2", "None"][..]), any::<bool>(), any::<bool>(), prop::bool::weighted(0.3));
    let service = service.prop_map(|(namespace, number, ip, wrong, external, deleted)| {
        let annotations = if wrong { json!({"nodegate.dev/dial": "wrong", "nodegate.dev/unknown": "", "nodegate.dev/backend-protocol": "https"}) } else { Value::Null };
        let spec = json!({"type": if external { "ExternalName" } else { "ClusterIP" }, "externalName": "example.com", "clusterIP": ip, "ports": [{"name": "http", "port": 80}]});
        json!({"kind": "Service", "deleted": deleted, "metadata": {"namespace": namespace, "name": format!("s{number}"), "annotations": annotations}, "spec": spec})
    });
    let slice = (namespace(), 0..8_u8, 0..6_u8, select(&["192.0.2.1", "192.0.2.2", "wrong"][..]), any::<bool>(), prop::bool::weighted(0.3));
    let slice = slice.prop_map(|(namespace, name, service, address, ready, deleted)| {
        let labels = json!({"kubernetes.io/service-name": format!("s{service}")});
        let endpoints = json!([{"addresses": [address], "conditions": {"ready": ready}}]);
        json!({"kind": "EndpointSlice", "deleted": deleted, "addressType": "IPv4", "metadata": {"namespace": namespace, "name": format!("e{name}"), "labels": labels},
            "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
    });
    let class = (select(&["nodegate", "other"][..]), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(name, ours, default, deleted)| {
        let annotations = json!({"ingressclass.kubernetes.io/is-default-class": default.to_string()});
        let controller = if ours { "nodegate.dev/ingress-controller" } else { "example.com/other" };
        json!({"kind": "IngressClass", "deleted": deleted, "metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}})
    });
    prop_oneof![12 => ingress(), 2 => secret(), 3 => service, 3 => slice, 1 => class, 1 => Just(json!({"kind": "Reread"}))]
}

fn assert_same(one: &Compiled, other: &Compiled) -> Result<(), TestCaseError> {
    prop_assert_eq!(one.snapshot.render(), other.snapshot.render());
    prop_assert!(one.snapshot == other.snapshot, "what explain says differs");
    let of_what_is_in_force = one.diagnostics.iter().filter(|diagnostic| !is_of_a_newer_version(diagnostic)).collect::<Vec<_>>();
    prop_assert_eq!(of_what_is_in_force, other.diagnostics.iter().collect::<Vec<_>>());
    let accepted = |compiled: &Compiled| compiled.accepted.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    prop_assert_eq!(accepted(one), accepted(other));
    Ok(())
}

fn is_of_a_newer_version(diagnostic: &Diagnostic) -> bool {
    diagnostic.code == "previous_in_force" || diagnostic.message.starts_with("in the version that isn't in force: ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_as_if_everything_were_compiled_that_is_in_force(
        first in vec(ingress(), 0..60),
        moments in vec(vec(change(), 0..4), 1..20),
        owned in any::<bool>(),
        authoritative in any::<bool>(),
    ) {
        let host_ownership = if owned { HostOwnership::Namespace } else { HostOwnership::Shared };
        let options = Options { host_ownership, endpoints_authoritative: authoritative, ..Options::default() };
        let mut follower = Follower::new(options.clone());
        let (mut cluster, mut in_force) = (Cluster::default(), InForce::default());
        // Where nothing leads anywhere, no edit makes anything worse.
        for (namespace, number) in ["default", "shop"].into_iter().flat_map(|namespace| (0..6).map(move |number| (namespace, number))) {
            let spec = json!({"clusterIP": "10.43.0.9", "ports": [{"port": 80}]});
            cluster.apply(&json!({"kind": "Service", "metadata": {"namespace": namespace, "name": format!("s{number}")}, "spec": spec}));
        }
        for (minute, changes) in (0..).zip(std::iter::once(first).chain(moments)) {
            for change in &changes {
                cluster.apply(change);
            }
            in_force.follow(&cluster, &options, minute);
            follower.now = Timestamp::from_second(60 * minute).unwrap();
            let compiled = follower.compile(&cluster);
            assert_same(compiled, &compile(&in_force.of(&cluster).objects(), &options))?;
            prop_assert_eq!(held(compiled), in_force.held());
        }
    }
}

fn simple(name: &str, host: &str, service: &str) -> Value {
    json!({
        "kind": "Ingress", "metadata": {"namespace": "shop", "name": name},
        "spec": {"ingressClassName": "nodegate", "rules": [{"host": host, "http": {"paths": [{"path": format!("/{name}"), "pathType": "Prefix",
            "backend": {"service": {"name": service, "port": {"number": 80}}}}]}}]},
    })
}

#[test]
fn a_change_costs_what_it_concerns() {
    let mut cluster = Cluster::default();
    for number in 0..100 {
        cluster.apply(&simple(&format!("i{number}"), &format!("h{number}.example"), &format!("s{}", number / 2)));
    }
    cluster.apply(&simple("guest", "h7.example", "guest"));
    let mut follower = Follower::new(Options::default());
    let mut compiled = |cluster: &Cluster| {
        follower.compile(cluster);
        follower.compiled
    };
    assert_eq!(compiled(&cluster), 101);
    assert_eq!(compiled(&cluster), 0, "nothing has changed");
    cluster.apply(&simple("i3", "h3.example", "other"));
    assert_eq!(compiled(&cluster), 1, "itself");
    cluster.apply(&simple("i7", "h7.example", "other"));
    assert_eq!(compiled(&cluster), 2, "and who has the same host");
    cluster.apply(&simple("i3", "h7.example", "other"));
    assert_eq!(compiled(&cluster), 3, "and who has the host that it has now");
    cluster.apply(&simple("i3", "h3.example", "other"));
    assert_eq!(compiled(&cluster), 3, "or had before");
    let service = json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "s20"}, "spec": {"clusterIP": "10.43.0.1", "ports": [{"port": 80}]}});
    cluster.apply(&service);
    assert_eq!(compiled(&cluster), 2, "those that lead to the Service");
    let slice = json!({"kind": "EndpointSlice", "addressType": "IPv4", "metadata": {"namespace": "shop", "name": "e", "labels": {"kubernetes.io/service-name": "s20"}},
        "ports": [{"port": 80}], "endpoints": [{"addresses": ["192.0.2.1"]}]});
    cluster.apply(&slice);
    assert_eq!(compiled(&cluster), 2);
    cluster.reread();
    assert_eq!(compiled(&cluster), 0, "the same, read once more");
    cluster.ingresses.remove("\"shop\"/\"i7\"");
    assert_eq!(compiled(&cluster), 1, "who shared a host with it");
    cluster.classes.insert("nodegate".to_owned(), Arc::default());
    assert_eq!(compiled(&cluster), 100, "a class is everybody's");
}

#[test]
fn where_hosts_are_owned_a_wildcard_concerns_those_below_it() {
    let mut cluster = Cluster::default();
    for number in 0..100 {
        cluster.apply(&simple(&format!("i{number}"), &format!("h{number}.example"), "s"));
    }
    let mut follower = Follower::new(Options { host_ownership: HostOwnership::Namespace, ..Options::default() });
    let mut compiled = |cluster: &Cluster| {
        follower.compile(cluster);
        follower.compiled
    };
    assert_eq!(compiled(&cluster), 100);
    cluster.apply(&simple("i3", "h3.example", "other"));
    assert_eq!(compiled(&cluster), 1, "nobody has the wildcard");
    cluster.apply(&simple("wildcard", "*.example", "s"));
    assert_eq!(compiled(&cluster), 101);
    cluster.apply(&simple("i3", "h3.example", "s"));
    assert_eq!(compiled(&cluster), 101);
    cluster.ingresses.remove("\"shop\"/\"wildcard\"");
    assert_eq!(compiled(&cluster), 100, "those that it was above");
}

/// An Ingress for `h.example` with the certificate in Secret `cert`.
fn secured() -> Value {
    let mut ingress = simple("i", "h.example", "s");
    ingress["spec"]["tls"] = json!([{"secretName": "cert"}]);
    ingress
}

/// What a client gets for `h.example`, and the codes of what is wrong with Secrets.
fn certificate_after(follower: &mut Follower, cluster: &Cluster) -> (Option<Vec<u8>>, Vec<&'static str>) {
    let compiled = follower.compile(cluster);
    let certificates = compiled.snapshot.certificates(Some("h.example"));
    let served = certificates.and_then(|certificates| certificates.iter().next()).map(|bound| bound.certificate.key().cert[0].to_vec());
    let about_secrets = compiled.diagnostics.iter().filter(|diagnostic| diagnostic.code.contains("secret"));
    (served, about_secrets.map(|diagnostic| diagnostic.code).collect())
}

#[test]
fn the_last_good_certificate_is_served_until_there_is_another_one_or_nobody_names_it() {
    let mut cluster = Cluster::default();
    cluster.apply(&secured());
    let mut follower = Follower::new(Options::default());
    let mut after = |cluster: &Cluster| certificate_after(&mut follower, cluster);
    assert_eq!(after(&cluster), (None, vec!["unknown_secret"]));
    cluster.apply(&certificate().secret("shop", "cert"));
    let (first, fine) = after(&cluster);
    assert!(first.is_some() && fine.is_empty());
    let one = certificate();
    cluster.apply(&Issued { key: certificate().key, ..one.clone() }.secret("shop", "cert"));
    assert_eq!(after(&cluster), (first.clone(), vec!["bad_secret"]), "key and certificate don't fit");
    cluster.secrets.clear();
    assert_eq!(after(&cluster), (first.clone(), vec!["unknown_secret"]), "gone");
    // Also where the Ingress is another one meanwhile.
    let mut edited = secured();
    edited["metadata"]["annotations"] = json!({"example.com/a": "b"});
    cluster.apply(&edited);
    assert_eq!(after(&cluster), (first.clone(), vec!["unknown_secret"]));
    cluster.apply(&one.secret("shop", "cert"));
    let (second, fine) = after(&cluster);
    assert!(second.is_some() && second != first && fine.is_empty());
    cluster.secrets.clear();
    cluster.ingresses.clear();
    after(&cluster);
    cluster.apply(&secured());
    assert_eq!(after(&cluster), (None, vec!["unknown_secret"]), "forgotten");
}

#[test]
fn the_default_certificate_is_followed_like_any_other() {
    let mut cluster = Cluster::default();
    for number in 0..20 {
        cluster.apply(&simple(&format!("i{number}"), &format!("h{number}.example"), "s"));
    }
    let options = Options { default_certificate: Some(("shop".to_owned(), "cert".to_owned())), ..Options::default() };
    let mut follower = Follower::new(options);
    let mut after = |cluster: &Cluster| certificate_after(&mut follower, cluster);
    assert_eq!(after(&cluster), (None, vec!["unknown_secret"]));
    cluster.apply(&certificate().secret("shop", "cert"));
    let (first, fine) = after(&cluster);
    assert!(first.is_some() && fine.is_empty());
    // An edit elsewhere leaves it where it is.
    cluster.apply(&simple("i3", "h3.example", "other"));
    assert_eq!(after(&cluster), (first.clone(), vec![]));
    cluster.secrets.clear();
    assert_eq!(after(&cluster), (first.clone(), vec!["unknown_secret"]));
    cluster.apply(&certificate().secret("shop", "cert"));
    let (second, fine) = after(&cluster);
    assert!(second.is_some() && second != first && fine.is_empty());
}

#[test]
fn an_old_version_that_made_no_difference_is_not_kept() {
    let mut cluster = Cluster::default();
    cluster.apply(&simple("i", "h.example", "s"));
    let mut follower = Follower::new(Options::default());
    follower.compile(&cluster);
    let old = cluster.ingresses.values().map(Arc::downgrade).next().unwrap();
    cluster.reread();
    let edits = edits(&follower.seen.ingresses, &cluster.ingresses);
    follower.seen = Cluster::default();
    assert_eq!(old.strong_count(), 1);
    follower.incremental.refresh(edits);
    assert_eq!(old.strong_count(), 0);
}

#[test]
fn a_backend_that_has_not_changed_is_the_same_one() {
    let mut cluster = Cluster::default();
    for number in 0..10 {
        cluster.apply(&simple(&format!("i{number}"), &format!("h{number}.example"), "shared"));
    }
    let mut follower = Follower::new(Options::default());
    let backend = |compiled: &Compiled, host: &str, path: &str| Arc::clone(&compiled.snapshot.find(host, path).unwrap().backend);
    let before = backend(follower.compile(&cluster), "h1.example", "/i1");
    cluster.apply(&simple("i2", "new.example", "shared"));
    let after = backend(follower.compile(&cluster), "new.example", "/i2");
    assert_eq!(follower.compiled, 1);
    assert!(Arc::ptr_eq(&before, &after));
    // Nor where nobody else leads there.
    cluster.ingresses.retain(|name, _| name.contains("i2"));
    follower.compile(&cluster);
    cluster.apply(&simple("i2", "newer.example", "shared"));
    assert!(Arc::ptr_eq(&before, &backend(follower.compile(&cluster), "newer.example", "/i2")));
}
