//! What a file's text becomes.

use super::*;
use crate::source::object::Object;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: n}\n";

fn yaml(text: &str) -> Manifest {
    parse("f.yaml", text, Format::Yaml, Earlier::default())
}

fn parse<'a>(path: &str, text: &'a str, format: Format, earlier: Earlier<'a>) -> Manifest {
    let text = Text { path: path.into(), content: text, format, earlier };
    let mut manifest = Manifest::default();
    text.documents().into_iter().for_each(|document| manifest.append(text.read(document)));
    manifest
}

/// `Kind namespace/name` of the decoded, `! Kind namespace/name` of the others.
fn keys(manifest: &Manifest) -> Vec<String> {
    let mark = |version: &Version| match version {
        Version::Decoded(object) => object.key().to_string(),
        Version::Undecodable { key, .. } => format!("! {key}"),
    };
    manifest.definitions.iter().map(|definition| mark(&definition.version)).collect()
}

fn problems(manifest: &Manifest) -> Vec<String> {
    let undecodable = manifest.definitions.iter().filter_map(|definition| match &definition.version {
        Version::Decoded(_) => None,
        Version::Undecodable { problem, .. } => Some(&**problem),
    });
    manifest.problems.iter().chain(undecodable).map(|problem| format!("{} {}", problem.code, problem.subject)).collect()
}

#[test]
fn kinds_are_recognised_and_others_passed_over() {
    let cases: [(&str, &str, &[&str], &[&str]); 15] = [
        ("a Service", SERVICE, &["Service n/s"], &[]),
        ("no namespace", "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n", &["Service default/s"], &[]),
        ("a class", "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: c}\n", &["IngressClass c"], &[]),
        ("a Deployment", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", &[], &[]),
        ("another group's Service", "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: d}\n", &[], &[]),
        ("a NetworkPolicy", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n", &[], &[]),
        ("an opaque Secret", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n", &[], &[]),
        ("a TLS Secret", "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: s}\n", &["Secret default/s"], &[]),
        (
            "an old Ingress",
            "\napiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: i}\n",
            &["! Ingress default/i"],
            &["unsupported_version f.yaml document 1 line 2"],
        ),
        (
            "a small i",
            "apiVersion: networking.k8s.io/v1\nkind: ingress\nmetadata: {name: i}\n",
            &[],
            &["unknown_kind f.yaml document 1 line 1"],
        ),
        ("a typed list of something else", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems: []\n", &[], &[]),
        ("no kind", "replicas: 3\n", &[], &["malformed f.yaml document 1 line 1"]),
        ("no name", "apiVersion: v1\nkind: Service\nmetadata: {}\n", &[], &["malformed f.yaml document 1 line 1"]),
        ("nothing but comments", "# nothing\n---\n# here\n", &[], &[]),
        ("a scalar", "hello\n", &[], &["malformed f.yaml document 1 line 1"]),
    ];
    for (label, text, expected, complaints) in cases {
        let manifest = yaml(text);
        assert_eq!(keys(&manifest), expected, "{label}");
        assert_eq!(problems(&manifest), complaints, "{label}");
    }
}

#[test]
fn lists_of_both_sorts_are_unpacked() {
    let generic = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, \
                   metadata: {name: p}}\n- {apiVersion: v1, kind: Service, metadata: {name: b}}\n";
    assert_eq!(keys(&yaml(generic)), ["Service default/a", "Service default/b"]);
    let typed = "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n";
    assert_eq!(keys(&yaml(typed)), ["Service default/a"]);
}

#[test]
fn a_document_of_the_wrong_type_is_lost_alone_and_its_line_is_told() {
    let text =
        format!("{SERVICE}---\napiVersion: v1\nkind: Service\nmetadata: {{name: t}}\nspec:\n  ports:\n  - port: http\n---\n{SERVICE}");
    let manifest = yaml(&text);
    assert_eq!(keys(&manifest), ["Service n/s", "! Service default/t", "Service n/s"]);
    assert_eq!(problems(&manifest), ["undecodable f.yaml document 2 line 10"]);
    let message = "Service default/t can't be understood: spec.ports[0].port: invalid type: string \"http\", expected i32";
    let Version::Undecodable { problem, .. } = &manifest.definitions[1].version else { panic!("{manifest:?}") };
    assert_eq!(problem.message, message);
    assert!(!manifest.malformed);
}

#[test]
fn the_line_of_a_wrong_field_is_found_wherever_the_object_stands() {
    let port = |lines: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: t}}\n{lines}");
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n- apiVersion: v1\n  kind: Service\n  \
                metadata: {name: b}\n  spec:\n    ports:\n    - {name: x, port: 80}\n    - name: y\n      port: [80]\n";
    for (label, text, line) in [
        ("a block", port("spec:\n  ports:\n  - name: x\n    port: 80\n  - name: y\n    port: eighty\n"), 9),
        ("in one line", port("spec: {ports: [{port: 80}, {port: eighty}]}\n"), 4),
        ("a whole field", port("\nspec:\n\n  ports: none\n"), 7),
        ("something that is missing", port("spec:\n  ports:\n  - name: x\n    port: 80\n  - null\n"), 8),
        ("behind an alias", port("spec:\n  externalName: &name 80\n  clusterIP: *name\n"), 6),
        ("the second item of a list", list.to_owned(), 14),
        (
            "JSON",
            "{\n\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"t\"},\n\"spec\": {\n\"ports\": 80}}".to_owned(),
            4,
        ),
    ] {
        let manifest = yaml(&text);
        let expected = format!("undecodable f.yaml document 1 line {line}");
        assert_eq!(problems(&manifest), [expected], "{label}: {:?}", manifest.definitions);
    }
}

#[test]
fn a_malformed_document_is_told_with_its_line_and_its_neighbours_are_read() {
    let cases = [
        ("an unclosed bracket", "metadata: [\n", 7),
        ("a duplicate key", "apiVersion: v1\nkind: Service\nkind: Service\nmetadata: {name: x}\n", 7),
        ("a tab", "kind: x\nmetadata:\n\tname: y\n", 7),
        ("an unknown alias", "kind: *nope\n", 5),
    ];
    for (label, bad, line) in cases {
        let manifest = yaml(&format!("{SERVICE}---\n{bad}---\n{SERVICE}"));
        assert!(manifest.malformed, "{label}");
        assert_eq!(keys(&manifest), ["Service n/s", "Service n/s"], "{label}");
        let problem = &manifest.problems[0];
        let Subject::File { document: 2, line: found, .. } = problem.subject else { panic!("{label}: {problem}") };
        assert!((5..=line).contains(&found), "{label}: {problem}");
        assert!(!problem.message.contains('\n'), "{label}: one line: {problem}");
    }
}

#[test]
fn yaml_is_that_of_1_2_and_kubernetes_types_are_not_bent() {
    let annotated =
        |value: &str| format!("{SERVICE}---\napiVersion: v1\nkind: Service\nmetadata:\n  name: t\n  annotations: {{a: {value}}}\n");
    for (value, expected) in [("yes", Some("yes")), ("on", Some("on")), ("\"true\"", Some("true")), ("true", None), ("1", None)] {
        let manifest = yaml(&annotated(value));
        let found = match &manifest.definitions[1].version {
            Version::Decoded(Object::Service(service)) => service.metadata.annotations.as_ref().map(|all| all["a"].clone()),
            _ => None,
        };
        assert_eq!(found.as_deref(), expected, "{value}");
    }
}

#[test]
fn aliases_cannot_be_used_to_fill_the_memory() {
    use std::fmt::Write;
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let item = format!("*a{}", level - 1);
        writeln!(text, "a{level}: &a{level} [{}]", vec![item; 10].join(", ")).unwrap();
    }
    let manifest = yaml(&text);
    assert!(manifest.malformed);
    assert_eq!(manifest.definitions.len(), 0);
}

#[test]
fn json_is_read_by_its_own_rules() {
    let good = parse(
        "f.json",
        "{\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\", \"metadata\": {\"name\": \"s\"}}",
        Format::Json,
        Earlier::default(),
    );
    assert_eq!(keys(&good), ["Service default/s"]);
    let bad = parse("f.json", "{\"apiVersion\":\n\"v1\",}", Format::Json, Earlier::default());
    assert_eq!(problems(&bad), ["malformed f.json document 1 line 2"]);
}

#[test]
fn a_document_that_is_known_is_not_read_again_wherever_it_stands_now() {
    let service = |name: &str| format!("kind: Service\napiVersion: v1\nmetadata: {{name: {name}}}\n");
    let first = yaml(&[service("a"), service("b")].join("---\n"));
    let earlier: Earlier<'_> = first.definitions.iter().map(|one| (one.text.unwrap(), one)).collect();
    let moved = format!("---\n# comment\n---\n{}---\n{}", service("c"), service("b"));
    let mut known = 0;
    for text in [moved.clone(), moved.replace("name: b", "name: d")] {
        let fresh = yaml(&text);
        let reread = parse("f.yaml", &text, Format::Yaml, earlier.clone());
        let seen = |manifest: &Manifest| manifest.definitions.iter().map(|one| (one.version.key(), one.at)).collect::<Vec<_>>();
        assert_eq!(seen(&reread), seen(&fresh));
        let shared = |one: &&Definition| matches!(&one.version, Version::Decoded(Object::Service(object)) if Arc::strong_count(object) > 1);
        known += reread.definitions.iter().filter(shared).count();
    }
    assert_eq!(known, 1, "b alone");
}

#[test]
fn what_is_wrong_is_read_and_told_every_time() {
    let manifest = yaml(
        "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {ports: 7}\n---\nkind: Service\napiVersion: v9\nmetadata: {name: b}\n",
    );
    assert_eq!(manifest.definitions.iter().map(|one| one.text).collect::<Vec<_>>(), [None, None]);
}
