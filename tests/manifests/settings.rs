//! What the pods' arguments and environment come to in Nodegate's own parser, and in its own table.

use std::{ffi::OsString, fmt::Write as _, fs, net::SocketAddr, process::Command};

use nodegate::{
    compile::OWN_CONTROLLER,
    config::{self, Invocation, ServeSettings, args},
};
use serde_json::Value;

use crate::{
    pod::variable,
    rendered::{INSTALLATIONS, Installation, chart_refuses, chart_with, example, overlay},
};

#[test]
fn nodegate_understands_what_its_pods_are_given() {
    for installation in INSTALLATIONS.iter() {
        let settings = settings(installation);
        assert!(settings.manifests.is_empty(), "{installation}: it reads the cluster");
        assert!(settings.limits.max_connections < config::limits::CONNECTIONS_PER_WORKER, "{installation}: what the memory is for");
    }
}

#[test]
fn the_base_differs_from_the_defaults_in_memory_and_in_what_the_pod_is_called() {
    let (ours, mut expected) = (settings(&INSTALLATIONS[0]).shown, parse(Vec::new()).shown);
    expected["limits"]["max-connections"] = ours["limits"]["max-connections"].clone();
    expected["cluster"]["pod-name"] = "metadata.name".into();
    expected["cluster"]["pod-uid"] = "metadata.uid".into();
    expected["cluster"]["pod-namespace"] = "metadata.namespace".into();
    assert_eq!(ours, expected);
}

#[test]
fn probes_ask_the_admin_listener_of_the_node_and_at_the_start_their_own_process() {
    for installation in INSTALLATIONS.iter() {
        let admin = settings(installation).admin;
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/nodez")] {
            let get = &installation.container()[probe]["httpGet"];
            assert_eq!(get["host"], admin.ip().to_string(), "{installation}: {probe}");
            assert_eq!(get["port"], admin.port(), "{installation}: {probe}");
            // What the pages mean is admin's own test.
            assert_eq!(get["path"], path, "{installation}: {probe}");
        }
        let command = installation.container()["startupProbe"]["exec"]["command"].as_array().unwrap();
        let words = command.iter().map(|word| OsString::from(word.as_str().unwrap()));
        match config::parse(words).unwrap_or_else(|error| panic!("{installation}: {error}")) {
            Invocation::Run(args::Command::Ready(ready)) => assert_eq!(ready.admin, admin.to_string(), "{installation}"),
            other => panic!("{installation}: {other:?}"),
        }
    }
}

#[test]
fn behind_cloudflare_only_cloudflare_is_believed_and_let_in() {
    let settings = settings(overlay("k3s-cloudflare"));
    assert_eq!(settings.shown["trusted-proxies"], serde_json::json!(["cloudflare"]));
    assert_eq!(settings.shown["allow-peers"], serde_json::json!(["cloudflare"]));
    assert!(settings.allow_peers.is_some() && settings.http_is_default);
}

#[test]
fn the_default_class_is_marked_in_its_overlay_alone() {
    for installation in INSTALLATIONS.iter() {
        let marked = installation.object("IngressClass")["metadata"].pointer("/annotations/ingressclass.kubernetes.io~1is-default-class");
        let expected = (installation.name == "overlays/default-class").then_some("true");
        assert_eq!(marked.and_then(Value::as_str), expected, "{installation}");
        assert_eq!(installation.object("IngressClass")["spec"]["controller"], OWN_CONTROLLER, "{installation}");
    }
}

#[test]
fn tls_is_served_in_its_overlay_alone_which_may_read_secrets() {
    for installation in INSTALLATIONS.iter() {
        let ports: Vec<u16> = settings(installation).https.iter().map(SocketAddr::port).collect();
        let rules = installation.object("ClusterRole")["rules"].as_array().unwrap();
        let reads_secrets = rules.iter().any(|rule| rule["resources"] == serde_json::json!(["secrets"]));
        let expected = if installation.name == "overlays/https" { (vec![443, 443], true) } else { (Vec::new(), false) };
        assert_eq!((ports, reads_secrets), expected, "{installation}");
    }
}

#[test]
fn port_80_is_left_alone_beside_traefik() {
    for (name, port) in [("beside-traefik", 8080), ("take-over-traefik", 8080), ("take-over-traefik/final", 80)] {
        let settings = settings(overlay(name));
        assert!(settings.http.iter().all(|address| address.port() == port), "{name}: {:?}", settings.http);
    }
}

#[test]
fn status_is_left_to_traefik_while_it_runs() {
    for installation in INSTALLATIONS.iter() {
        // Without it no node's address is written.
        let knows_its_pod = settings(installation).shown["cluster"]["pod-name"].is_string();
        assert_eq!(knows_its_pod, installation.name != "overlays/take-over-traefik", "{installation}");
    }
}

#[test]
fn traefiks_ingresses_are_served_before_and_after_its_class_is_gone() {
    let traefik = "kind: IngressClass\nmetadata:\n  name: traefik\n  annotations: {ingressclass.kubernetes.io/is-default-class: \"true\"}\n\
                   spec: {controller: traefik.io/ingress-controller}";
    for name in ["take-over-traefik", "take-over-traefik/final"] {
        for class in [traefik, ""] {
            let routes = routes(overlay(name), class);
            for host in ["own", "traefik", "annotated", "classless"] {
                assert!(routes.contains(&format!("{host}.example")), "{name}, class {class:?}: {host}\n{routes}");
            }
            assert!(!routes.contains("other.example"), "{name}: another controller's\n{routes}");
        }
    }
    let beside = routes(overlay("beside-traefik"), traefik);
    assert!(beside.contains("own.example"), "{beside}");
    for host in ["traefik", "annotated", "classless", "other"] {
        assert!(!beside.contains(&format!("{host}.example")), "{host} is Traefik's\n{beside}");
    }
}

#[test]
fn every_flag_can_be_a_value_of_the_chart() {
    let objects =
        chart_with(&["flags.trusted-proxies={10.0.0.0/8,cloudflare}", "flags.adopt-classless=true", "flags.keep-alive-timeout=5m"]);
    let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let settings = of_container(&daemon_set["spec"]["template"]["spec"]["containers"][0]);
    assert_eq!(settings.shown["trusted-proxies"], serde_json::json!(["10.0.0.0/8", "cloudflare"]));
    assert!(settings.compile.adopt_classless);
    assert_eq!(settings.limits.keep_alive_timeout.as_secs(), 300);
}

#[test]
fn what_depends_on_a_flag_follows_it_in_the_chart() {
    for (admin, host, port) in [("127.0.0.2:9081", "127.0.0.2", 9081), ("[::1]:9082", "::1", 9082)] {
        let objects = chart_with(&[&format!("flags.admin={admin}"), "flags.lease-name=another", "terminationGracePeriodSeconds=90"]);
        let pod = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"];
        for probe in ["livenessProbe", "readinessProbe"] {
            let get = &pod["containers"][0][probe]["httpGet"];
            assert_eq!((&get["host"], &get["port"]), (&host.into(), &port.into()), "{probe}");
        }
        assert_eq!(pod["terminationGracePeriodSeconds"], 90);
        let lease = &of_kind(&objects, "Role")["rules"][0];
        assert_eq!((&lease["resources"][0], &lease["resourceNames"][0]), (&"leases".into(), &"another".into()));
    }
    for flag in ["pod-name", "pod-uid", "pod-namespace"] {
        let said = chart_refuses(&[&format!("flags.{flag}=x")]);
        assert!(said.contains(flag), "{said}");
    }
}

#[test]
fn the_guides_example_names_the_image_of_another_registry() {
    let objects = example("my-nodegate");
    let container = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], format!("registry.internal.example/nodegate:{}", env!("CARGO_PKG_VERSION")));
    assert!(of_container(container).allow_peers.is_some());
}

#[test]
fn the_guides_second_installation_shares_nothing_with_the_first() {
    let (first, second) = (&INSTALLATIONS[0], example("second"));
    let namespace = "nodegate-second";
    for object in &second {
        let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
        let other = &first.object(kind)["metadata"];
        assert_ne!((&metadata["namespace"], &metadata["name"]), (&other["namespace"], &other["name"]), "{kind}");
        assert!(metadata.get("namespace").is_none_or(|name| name == namespace), "{kind}: {metadata}");
    }
    let daemon_set = &of_kind(&second, "DaemonSet")["spec"]["template"]["spec"];
    let account = &of_kind(&second, "ServiceAccount")["metadata"]["name"];
    assert_eq!(daemon_set["serviceAccountName"], *account);
    for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
        let object = of_kind(&second, binding);
        let subject = serde_json::json!({ "kind": "ServiceAccount", "name": account, "namespace": namespace });
        assert_eq!(object["subjects"], serde_json::json!([subject]), "{binding}");
        assert_eq!(object["roleRef"]["name"], of_kind(&second, role)["metadata"]["name"], "{binding}");
    }

    let container = &daemon_set["containers"][0];
    let (ours, theirs) = (of_container(container), settings(first));
    assert!(ours.http.iter().all(|address| theirs.http.iter().all(|other| address.port() != other.port())));
    assert_ne!(ours.admin.port(), theirs.admin.port());
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], ours.admin.port(), "{probe}");
        assert_eq!(container[probe]["httpGet"]["path"], first.container()[probe]["httpGet"]["path"], "{probe}");
    }
    let class = of_kind(&second, "IngressClass");
    assert_eq!(serde_json::json!(ours.compile.controllers), serde_json::json!([class["spec"]["controller"]]));
    assert_eq!(serde_json::json!(ours.compile.class_names), serde_json::json!([class["metadata"]["name"]]));
    assert!(!theirs.compile.controllers.contains(&ours.compile.controllers[0]));
}

/// The object of that kind; there is one of each.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    found.next().filter(|_| found.next().is_none()).unwrap_or_else(|| panic!("not one {kind}"))
}

fn settings(installation: &Installation) -> ServeSettings {
    of_container(installation.container())
}

/// The environment as flags: that every flag reads its variable is tested with the parser. What a variable takes from the pod's own object is the
/// name of that field here.
pub fn of_container(container: &Value) -> ServeSettings {
    let args = container["args"].as_array().unwrap();
    assert_eq!(args[0], "serve");
    let mut line: Vec<String> = args[1..].iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let flag = name.strip_prefix("NODEGATE_").unwrap_or_else(|| panic!("{name} is no flag")).to_lowercase().replace('_', "-");
        match variable["value"].as_str() {
            // Flags without a value are on or off as variables.
            Some("true") => line.push(format!("--{flag}")),
            Some(value) => line.push(format!("--{flag}={value}")),
            None => line.push(format!("--{flag}={}", variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap())),
        }
    }
    parse(line)
}

fn parse(line: Vec<String>) -> ServeSettings {
    let shown = line.join(" ");
    let words = ["nodegate", "serve"].map(OsString::from).into_iter().chain(line.into_iter().map(OsString::from));
    match config::parse(words).unwrap_or_else(|error| panic!("{shown}: {error}")) {
        Invocation::Run(args::Command::Serve(args)) => ServeSettings::try_from(*args).unwrap_or_else(|error| panic!("{shown}: {error}")),
        other => panic!("{shown}: {other:?}"),
    }
}

/// The route table of Ingresses of several classes, with a pod's environment; `class` is one more object.
fn routes(installation: &Installation, class: &str) -> String {
    let mut yaml = format!("apiVersion: networking.k8s.io/v1\n{}\n---\n", if class.is_empty() { "kind: List\nitems: []" } else { class });
    for (host, meta, spec) in [
        ("own", "", "ingressClassName: nodegate"),
        ("traefik", "", "ingressClassName: traefik"),
        ("annotated", "annotations: {kubernetes.io/ingress.class: traefik}", ""),
        ("classless", "", ""),
        ("other", "", "ingressClassName: nginx"),
    ] {
        write!(
            yaml,
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {host}\n  {meta}\nspec:\n  {spec}\n  rules:\n  - host: {host}.example\n    \
             http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}]}}\n---\n"
        )
        .unwrap();
    }
    write!(yaml, "apiVersion: v1\nkind: Service\nmetadata:\n  name: app\nspec:\n  clusterIP: 127.43.9.9\n  ports: [{{port: 80}}]\n")
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("objects.yaml");
    fs::write(&file, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
    command.arg("routes").arg("--manifests").arg(&file);
    for name in ["NODEGATE_CONTROLLER", "NODEGATE_INGRESS_CLASS", "NODEGATE_ADOPT_CLASSLESS"] {
        command.env_remove(name).envs(variable(installation.container(), name).map(|value| (name, value)));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
