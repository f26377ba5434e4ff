//! Golden tests: each `tests/compile/*.yaml` and each directory of YAML under `examples/`, compiled, rendered, and compared with its snapshot.
//!
//! Comment lines at the start of a line steer a case: `# options: --controller NAME ...`, `# request: HOST PATH` (who answers),
//! `# explain: HOST PATH` (why), and `# certificate: NAMESPACE/NAME ALGORITHM HOST...` (a Secret). `INSTA_UPDATE=always cargo test --test compile` rewrites the snapshots; read the difference.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Secret, serde::de::DeserializeOwned};
use nodegate::{
    compile::{Compiled, HostOwnership, Https, Objects, Options, Tls, admit, compile},
    route::{Endpoints, Snapshot, Target},
};
use serde_json::Value;

use issued::issue;

#[path = "support/issued.rs"]
mod issued;

#[test]
fn every_case_compiles_to_its_snapshot() {
    let cases = yaml_files(&root().join("tests/compile"));
    assert!(cases.len() > 30, "only {} cases found", cases.len());
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let name = case.file_stem().unwrap().to_str().unwrap().to_owned();
        check(&name, &[text], "compile/snapshots");
    }
}

#[test]
fn every_example_compiles_to_its_snapshot() {
    let mut by_directory: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for file in yaml_files(&root().join("examples")) {
        if file.file_name().is_some_and(|name| name != "kustomization.yaml") {
            by_directory.entry(file.parent().unwrap().to_owned()).or_default().push(fs::read_to_string(&file).unwrap());
        }
    }
    assert!(!by_directory.is_empty(), "no examples found");
    for (directory, texts) in by_directory {
        let name = directory.strip_prefix(root().join("examples")).unwrap().to_str().unwrap().replace('/', "__");
        check(&format!("example__{name}"), &texts, "compile/snapshots");
    }
}

#[test]
fn what_an_api_server_would_refuse_is_not_admitted() {
    let text = fs::read_to_string(root().join("tests/compile/bad_objects.yaml")).unwrap();
    let mut report = String::new();
    for ingress in load(&[text]).ingresses {
        let name = ingress.metadata.name.clone().unwrap_or_default();
        match admit(&ingress) {
            Ok(()) => writeln!(report, "{name}: admitted").unwrap(),
            Err(diagnostics) => {
                for diagnostic in diagnostics {
                    writeln!(report, "{name}: {diagnostic}").unwrap();
                }
            }
        }
    }
    snapshot("admit", &report, "compile/snapshots");
}

#[test]
fn the_table_has_a_json_form() {
    let objects = load(&[case("dial"), case("external_name")]);
    snapshot("json", &compile(&objects, &Options::default()).snapshot.render_json(), "compile/snapshots");
}

#[test]
fn one_service_port_is_one_backend_for_all_paths_that_lead_there() {
    let table = compile(&load(&[case("path_prefix"), case("path_exact").replace("name: a\n", "name: b\n")]), &Options::default()).snapshot;
    let backends: Vec<_> = table.routes().map(|entry| Arc::clone(&entry.route.backend)).collect();
    let ingresses: BTreeSet<_> = table.routes().map(|entry| entry.route.ingress.to_string()).collect();
    assert_eq!((backends.len(), ingresses.len()), (5, 2));
    assert!(backends.iter().all(|backend| Arc::ptr_eq(backend, &backends[0])));
}

#[test]
fn tables_are_equal_unless_somebody_could_tell_them_apart() {
    let original = case("path_conflict_oldest");
    let table = |text: &str| compile(&load(&[text.to_owned()]), &Options::default()).snapshot;
    assert!(table(&original) == table(&original));
    // Labels, for one, change nothing.
    assert!(table(&original) == table(&original.replace("name: young\n", "name: young\n  labels: {a: b}\n")));
    let changes = [
        ("a path", "path: \"/x/\"", "path: \"/y\""),
        ("a host", "host: \"A.EXAMPLE\"", "host: \"b.example\""),
        ("an address of a backend", "clusterIP: 10.43.1.2", "clusterIP: 10.43.1.99"),
        ("a route that an older one keeps out, which `explain` names", "name: young\n", "name: younger\n"),
    ];
    for (what, from, to) in changes {
        assert!(original.contains(from), "{what}");
        assert!(table(&original) != table(&original.replace(from, to)), "{what}");
    }
}

/// The text of a case.
fn case(name: &str) -> String {
    fs::read_to_string(root().join(format!("tests/compile/{name}.yaml"))).unwrap()
}

fn check(name: &str, texts: &[String], directory: &str) {
    let objects = load(texts);
    let options = texts.iter().flat_map(|text| directives(text, "options")).fold(Options::default(), flags);
    let Compiled { snapshot: table, diagnostics, .. } = compile(&objects, &options);
    let mut report = table.render();
    report.push_str("\ndiagnostics\n");
    for diagnostic in &diagnostics {
        writeln!(report, "  {diagnostic}").unwrap();
    }
    let requests: Vec<&str> = texts.iter().flat_map(|text| directives(text, "request")).collect();
    if !requests.is_empty() {
        report.push_str("\nrequests\n");
    }
    for request in requests {
        let (host, path) = request.split_once(' ').unwrap();
        writeln!(report, "  {host} {path} -> {}", answer(&table, host, path)).unwrap();
    }
    for request in texts.iter().flat_map(|text| directives(text, "explain")) {
        let (host, path) = request.split_once(' ').unwrap();
        write!(report, "\nexplain\n{}", table.explain(host, path)).unwrap();
    }
    snapshot(name, &report, directory);
}

fn snapshot(name: &str, text: &str, directory: &str) {
    insta::with_settings!({ snapshot_path => directory, prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

fn answer(table: &Snapshot, host: &str, path: &str) -> String {
    match table.find(host, path) {
        None => "404".to_owned(),
        Some(route) => match (&route.backend.target, &route.backend.endpoints) {
            (Target::Unavailable(_), _) => format!("503 bad_backend ({})", route.ingress),
            (Target::ClusterIp(_) | Target::Endpoints, Endpoints::Known(ready)) if ready.is_empty() => {
                format!("503 no_endpoints ({})", route.ingress)
            }
            _ => format!("{} ({})", route.backend.id, route.ingress),
        },
    }
}

/// The texts of the lines `# name: text`.
fn directives<'t>(text: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let prefix = format!("# {name}: ");
    text.lines().filter_map(move |line| line.strip_prefix(&prefix))
}

fn flags(mut options: Options, words: &str) -> Options {
    let mut words = words.split_whitespace();
    let mut own_controllers = true;
    while let Some(flag) = words.next() {
        match flag {
            "--controller" => {
                if std::mem::take(&mut own_controllers) {
                    options.controllers.clear();
                }
                options.controllers.push(words.next().unwrap().to_owned());
            }
            "--ingress-class" => options.class_names = vec![words.next().unwrap().to_owned()],
            "--adopt-classless" => options.adopt_classless = true,
            "--watch-namespace" => options.watch_namespaces.push(words.next().unwrap().to_owned()),
            "--host-ownership" => {
                assert_eq!(words.next(), Some("namespace"));
                options.host_ownership = HostOwnership::Namespace;
            }
            "--allow-unsafe-external" => options.allow_unsafe_external = true,
            "--https-passed-on" => options.https = Https::PassedOn,
            "--https-never" => options.https = Https::Never,
            "--default-certificate" => {
                let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
                options.default_certificate = Some((namespace.to_owned(), name.to_owned()));
            }
            // Not flags of the command line: what serving without --https sets, and cluster mode.
            "--no-https" => options.tls = Tls::NotServed,
            "--cluster" => options.endpoints_authoritative = true,
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn load(texts: &[String]) -> Objects {
    let mut objects = Objects::default();
    let parse =
        |text: &String| serde_saphyr::from_multiple_with_options::<Value>(text, serde_saphyr::options!(strict_booleans: true)).unwrap();
    for value in texts.iter().flat_map(parse) {
        match value.get("kind").and_then(Value::as_str) {
            Some("Ingress") => objects.ingresses.push(typed(value)),
            Some("IngressClass") => objects.classes.push(typed(value)),
            Some("Service") => objects.services.push(typed(value)),
            Some("EndpointSlice") => objects.slices.push(typed(value)),
            Some("Secret") => objects.secrets.push(typed(value)),
            _ => {}
        }
    }
    for directive in texts.iter().flat_map(|text| directives(text, "certificate")) {
        objects.secrets.push(certificate(directive));
    }
    objects
}

/// A Secret, as `NAMESPACE/NAME ALGORITHM HOST...` says: with a certificate that is new each time, of which nothing is shown that differs.
fn certificate(directive: &str) -> Arc<Secret> {
    let mut words = directive.split_whitespace();
    let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
    let algorithm = match words.next().unwrap() {
        "ecdsa" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "rsa" => &rcgen::PKCS_RSA_SHA256,
        other => panic!("{other}"),
    };
    let names: Vec<&str> = words.collect();
    typed(issue(algorithm, &names).secret(namespace, name))
}

fn typed<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The YAML files below a directory, sorted.
fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}
