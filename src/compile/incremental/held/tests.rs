//! Which version of an Ingress is in force after an edit that makes it worse.

use super::*;
use crate::{
    compile::{Delta, Incremental, Tls},
    route::Snapshot,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// 2026-11-27 22:10:59 UTC, when there is no Ingress yet.
const NOON: i64 = 1_795_817_459;

/// A cluster with a Service `a`, as it is followed.
struct Followed {
    incremental: Incremental,
    snapshot: Snapshot,
    /// What is wrong, as `code field`; and in full.
    codes: Vec<String>,
    texts: Vec<String>,
    now: i64,
}

impl Followed {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let incremental = Incremental::new(options);
        let mut followed = Self { incremental, snapshot: Snapshot::default(), codes: Vec::new(), texts: Vec::new(), now: NOON };
        followed.turn(Delta { services: vec![service("a")], ..Delta::default() });
        followed
    }

    fn turn(&mut self, delta: Delta) {
        let update = self.incremental.compile(delta, &self.snapshot, Timestamp::from_second(self.now).unwrap());
        // Each turn is a minute later.
        self.now += 60;
        if let Some(snapshot) = update.snapshot {
            self.snapshot = snapshot;
        }
        let code = |diagnostic: &Diagnostic| match &diagnostic.subject {
            Subject::Object { field, .. } => format!("{} {field}", diagnostic.code).trim_end().to_owned(),
            Subject::File { .. } => unreachable!("no file"),
        };
        self.codes = update.diagnostics.iter().map(code).collect();
        self.texts = update.diagnostics.iter().map(ToString::to_string).collect();
    }

    fn edit(&mut self, ingress: &Value) {
        self.turn(Delta { ingresses: vec![put(ingress)], ..Delta::default() });
    }

    fn services(&mut self, services: Vec<Edit<Service>>) {
        self.turn(Delta { services, ..Delta::default() });
    }

    /// The Service that a path leads to, if anything does.
    fn leads(&self, path: &str) -> Option<String> {
        self.snapshot.find("h.example", path).map(|route| route.backend.id.service.to_string())
    }

    /// Whether the newest version of the only Ingress is in force.
    fn is_newest(&self) -> bool {
        let standing = self.incremental.ingresses().next().unwrap();
        Arc::ptr_eq(standing.newest, standing.in_force)
    }
}

fn put<T: DeserializeOwned>(value: &Value) -> Edit<T> {
    Edit::Put(Arc::new(serde_json::from_value(value.clone()).unwrap()))
}

fn service(name: &str) -> Edit<Service> {
    put(&json!({"metadata": {"namespace": "n", "name": name}, "spec": {"clusterIP": "10.43.0.1", "ports": [{"port": 80}]}}))
}

fn slice(service: &str) -> Edit<EndpointSlice> {
    let metadata = json!({"namespace": "n", "name": service, "labels": {"kubernetes.io/service-name": service}});
    put(&json!({"metadata": metadata, "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": ["192.0.2.1"]}]}))
}

fn no_service(name: &str) -> Edit<Service> {
    Edit::Remove { namespace: "n".into(), name: name.into() }
}

/// Paths of `h.example`, each with the Service that it leads to.
fn ingress(paths: &[(&str, &str)]) -> Value {
    let path = |(path, service): &(&str, &str)| json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}});
    let paths: Vec<_> = paths.iter().map(path).collect();
    json!({
        "metadata": {"namespace": "n", "name": "web", "uid": "u1"},
        "spec": {"ingressClassName": "nodegate", "rules": [{"host": "h.example", "http": {"paths": paths}}]},
    })
}

fn annotated(mut ingress: Value, key: &str, value: &str) -> Value {
    ingress["metadata"]["annotations"] = json!({key: value});
    ingress
}

#[test]
fn a_version_with_an_error_leaves_the_one_before_it_in_force_until_it_is_mended() {
    let mut cluster = Followed::new();
    cluster.edit(&ingress(&[("/", "a")]));
    assert_eq!((cluster.leads("/x"), &*cluster.codes), (Some("a".to_owned()), &[] as &[String]));

    cluster.edit(&annotated(ingress(&[("/new", "a")]), "nodegate.dev/dial", "wrong"));
    assert_eq!(cluster.leads("/x").as_deref(), Some("a"), "the version before");
    assert_eq!(
        cluster.texts,
        [
            "error[previous_in_force] Ingress n/web: its newest version has errors, and isn't in force: since 2026-11-27 22:12 UTC an earlier one without them \
             stays in its place; correct it; what is wrong is said beside this",
            "error[bad_annotation] Ingress n/web metadata.annotations[nodegate.dev/dial]: in the version that isn't in force: `wrong` has no meaning here; \
             the annotation is ignored; write \"clusterip\" or \"endpoints\"",
        ]
    );
    // What is wrong with it may change, and something else with it.
    cluster.edit(&ingress(&[("/new", "a"), ("/b", "b")]));
    assert_eq!((cluster.leads("/x").as_deref(), cluster.is_newest()), (Some("a"), false));
    assert_eq!(cluster.codes, ["previous_in_force", "unknown_service spec.rules[0].http.paths[1].backend.service.name"]);
    assert!(cluster.texts[0].contains("since 2026-11-27 22:12 UTC"), "as before: {:?}", cluster.texts);
    cluster.services(vec![no_service("c"), service("d")]);
    cluster.turn(Delta { slices: vec![slice("a")], ..Delta::default() });
    assert!(cluster.texts[0].contains("since 2026-11-27 22:12 UTC"), "as before: {:?}", cluster.texts);

    cluster.edit(&ingress(&[("/new", "a")]));
    assert_eq!((cluster.leads("/x"), cluster.leads("/new").as_deref(), cluster.is_newest()), (None, Some("a"), true));
    assert!(cluster.codes.is_empty());
}

#[test]
fn a_version_comes_into_force_once_the_service_is_there_that_it_lacks() {
    let mut cluster = Followed::new();
    cluster.edit(&ingress(&[("/", "a")]));
    cluster.edit(&ingress(&[("/", "b")]));
    assert_eq!(cluster.leads("/").as_deref(), Some("a"));
    cluster.services(vec![service("c")]);
    assert_eq!(cluster.leads("/").as_deref(), Some("a"));
    cluster.services(vec![service("b")]);
    assert_eq!((cluster.leads("/").as_deref(), cluster.is_newest(), cluster.codes.is_empty()), (Some("b"), true, true));
}

#[test]
fn an_error_that_was_there_before_holds_nothing_back_wherever_it_stands_now() {
    let mut cluster = Followed::new();
    cluster.edit(&ingress(&[("/", "a"), ("/b", "b")]));
    assert_eq!(cluster.codes, ["unknown_service spec.rules[0].http.paths[1].backend.service.name"], "a first version is in force as it is");
    cluster.edit(&ingress(&[("/b", "b"), ("/new", "a")]));
    assert_eq!((cluster.leads("/new").as_deref(), cluster.leads("/x")), (Some("a"), None));
    cluster.edit(&ingress(&[("/b", "b"), ("/c", "c")]));
    assert_eq!((cluster.leads("/new").as_deref(), cluster.is_newest()), (Some("a"), false), "one more is one more");
}

#[test]
fn the_version_before_gives_way_where_it_has_errors_that_the_newest_has_not() {
    let mut cluster = Followed::new();
    cluster.services(vec![service("b")]);
    cluster.edit(&ingress(&[("/", "a")]));
    cluster.edit(&annotated(ingress(&[("/", "b")]), "nodegate.dev/dial", "wrong"));
    assert_eq!(cluster.leads("/").as_deref(), Some("a"));
    cluster.services(vec![no_service("a")]);
    assert_eq!(
        (cluster.leads("/").as_deref(), &*cluster.codes),
        (Some("b"), &["bad_annotation metadata.annotations[nodegate.dev/dial]".to_owned()][..])
    );
}

#[test]
fn what_is_gone_or_another_object_or_another_controllers_stays_for_nobody() {
    let wrong = || annotated(ingress(&[("/new", "a")]), "nodegate.dev/dial", "wrong");
    let mut another = wrong();
    another["metadata"]["uid"] = json!("u2");
    let mut foreign = wrong();
    foreign["spec"]["ingressClassName"] = json!("other");
    for (edit, leads) in [(another, Some("a")), (foreign, None)] {
        for is_held in [false, true] {
            let mut cluster = Followed::new();
            cluster.edit(&ingress(&[("/", "a")]));
            if is_held {
                cluster.edit(&wrong());
                assert!(!cluster.is_newest());
            }
            cluster.edit(&edit);
            assert_eq!((cluster.leads("/x"), cluster.leads("/new").as_deref(), cluster.is_newest()), (None, leads, true), "{edit}");
        }
    }
    let mut cluster = Followed::new();
    cluster.edit(&ingress(&[("/", "a")]));
    cluster.edit(&wrong());
    cluster.turn(Delta { ingresses: vec![Edit::Remove { namespace: "n".into(), name: "web".into() }], ..Delta::default() });
    assert_eq!((cluster.leads("/x"), cluster.codes.is_empty()), (None, true));
    cluster.edit(&wrong());
    assert_eq!(cluster.leads("/new").as_deref(), Some("a"), "nothing is before it");
}

#[test]
fn what_is_taken_back_leaves_nothing_behind() {
    let mut cluster = Followed::new();
    cluster.edit(&ingress(&[("/", "a")]));
    cluster.edit(&annotated(ingress(&[("/", "a")]), "nodegate.dev/dial", "wrong"));
    assert!(!cluster.is_newest());
    cluster.edit(&ingress(&[("/", "a")]));
    assert_eq!((cluster.leads("/x").as_deref(), cluster.is_newest(), cluster.codes.is_empty()), (Some("a"), true, true));
}

#[test]
fn a_version_is_remembered_while_it_has_errors_itself_or_nobody_is_served() {
    let class = |controller: &str| put(&json!({"metadata": {"name": "nodegate"}, "spec": {"controller": controller}}));
    let ours = "nodegate.dev/ingress-controller";
    let mut cluster = Followed::new();
    cluster.turn(Delta { classes: vec![class(ours)], ..Delta::default() });
    cluster.services(vec![service("b")]);
    cluster.edit(&ingress(&[("/", "a")]));
    cluster.edit(&annotated(ingress(&[("/", "b")]), "nodegate.dev/dial", "wrong"));
    cluster.services(vec![no_service("a")]);
    assert_eq!(cluster.leads("/").as_deref(), Some("b"));
    cluster.services(vec![service("a")]);
    assert_eq!((cluster.leads("/").as_deref(), cluster.is_newest()), (Some("a"), false));
    cluster.turn(Delta { classes: vec![class("other")], ..Delta::default() });
    assert_eq!(cluster.leads("/"), None);
    cluster.turn(Delta { classes: vec![class(ours)], ..Delta::default() });
    assert_eq!((cluster.leads("/").as_deref(), cluster.is_newest()), (Some("a"), false));
    // Until there is a good one.
    cluster.edit(&ingress(&[("/", "b")]));
    cluster.services(vec![no_service("b")]);
    assert_eq!((cluster.leads("/").as_deref(), cluster.is_newest()), (Some("b"), true));
}

#[test]
fn what_is_to_be_protected_is_shut_rather_than_left_open() {
    let without_host = |mut ingress: Value| {
        let mut rule = ingress["spec"]["rules"][0].clone();
        rule["host"] = Value::Null;
        ingress["spec"]["rules"].as_array_mut().unwrap().push(rule);
        ingress
    };
    let protected = |paths: &[(&str, &str)]| annotated(ingress(paths), "nodegate.dev/client-ca-secret", "missing");
    for (options, new) in [
        (Options::default(), protected(&[("/new", "a")])),
        (Options { tls: Tls::NotServed, ..Options::default() }, protected(&[("/new", "a")])),
        (Options::default(), protected(&[("/new", "a"), ("/b", "missing")])),
        (Options::default(), without_host(protected(&[("/new", "a")]))),
        (Options::default(), annotated(ingress(&[("/new", "a")]), "nodegate.dev/client-ca-secrets", "typo")),
        (Options::default(), annotated(ingress(&[("/new", "a")]), "nodegate.dev/backend-protocol", "htps")),
        (Options::default(), annotated(ingress(&[("/new", "a")]), "nodegate.dev/backend-tls-verify", "On")),
        (Options::default(), annotated(ingress(&[("/new", "a")]), "nginx.ingress.kubernetes.io/auth-url", "x")),
    ] {
        let mut cluster = Followed::with(options);
        cluster.edit(&ingress(&[("/", "a")]));
        cluster.edit(&new);
        assert_eq!((cluster.leads("/x"), cluster.is_newest()), (None, true), "{new}");
        assert!(!cluster.codes.is_empty() || new.to_string().contains("missing"), "{new}");
    }
    // One that is protected already stays so.
    let mut cluster = Followed::with(Options { tls: Tls::Unknown, ..Options::default() });
    cluster.edit(&protected(&[("/", "a")]));
    cluster.edit(&protected(&[("/new", "missing")]));
    assert_eq!((cluster.leads("/x").as_deref(), cluster.is_newest()), (Some("a"), false));
}

#[test]
fn what_was_in_force_before_this_process_stands_by_whenever_it_is_known() {
    let newest = annotated(ingress(&[("/new", "a")]), "nodegate.dev/dial", "wrong");
    let earlier = || vec![Arc::new(serde_json::from_value::<Ingress>(ingress(&[("/", "a")])).unwrap())];
    // With the first list, and after it.
    let mut together = Followed::new();
    together.turn(Delta { ingresses: vec![put(&newest)], earlier: earlier(), ..Delta::default() });
    let mut later = Followed::new();
    later.edit(&newest);
    assert_eq!(later.leads("/new").as_deref(), Some("a"));
    later.turn(Delta { earlier: earlier(), ..Delta::default() });
    for mut cluster in [together, later] {
        assert_eq!((cluster.leads("/x").as_deref(), cluster.is_newest()), (Some("a"), false));
        cluster.edit(&ingress(&[("/newer", "a")]));
        assert_eq!((cluster.leads("/x"), cluster.is_newest()), (None, true));
    }
    // Not in the place of one that is good, nor of one that has nothing to do with it.
    let mut cluster = Followed::new();
    cluster.turn(Delta { ingresses: vec![put(&ingress(&[("/newer", "a")]))], earlier: earlier(), ..Delta::default() });
    assert!(cluster.is_newest());
}

#[test]
fn a_newer_version_that_differs_in_its_status_alone_changes_nothing() {
    let mut cluster = Followed::new();
    cluster.edit(&ingress(&[("/", "a")]));
    let mut wrong = annotated(ingress(&[("/new", "a")]), "nodegate.dev/dial", "wrong");
    cluster.edit(&wrong);
    wrong["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    cluster.incremental.refresh(vec![put(&wrong)]);
    let standing = cluster.incremental.ingresses().next().unwrap();
    assert!(standing.newest.status.is_some() && standing.in_force.status.is_none());
    cluster.turn(Delta::default());
    assert_eq!((cluster.leads("/x").as_deref(), cluster.is_newest()), (Some("a"), false));
}
