//! Kustomize and Helm give the same objects.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::rendered::{INSTALLATIONS, chart_refuses, chart_with};

#[test]
fn the_chart_renders_what_kustomize_does() {
    for installation in INSTALLATIONS.iter() {
        let (mut kustomize, helm) = (by_name(&installation.kustomize), by_name(&installation.helm));
        // A release can't hold the namespace that it is stored in: `helm install --create-namespace` makes it.
        assert!(kustomize.remove("Namespace /nodegate-system").is_some(), "{installation}");
        assert_eq!(kustomize.keys().collect::<Vec<_>>(), helm.keys().collect::<Vec<_>>(), "{installation}");
        for (name, object) in kustomize {
            assert_eq!(helm[&name], object, "{installation}: {name}\nleft: Helm, right: kustomize");
        }
    }
}

#[test]
fn big_numbers_reach_the_pod_as_they_are_written() {
    let objects = chart_with(&["flags.body-min-rate=3000000"]);
    let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let env = daemon_set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let rate = env.iter().find(|variable| variable["name"] == "NODEGATE_BODY_MIN_RATE").expect("the flag as a variable");
    assert_eq!(rate["value"], "3000000", "Helm reads numbers as floats");
}

#[test]
fn misspelt_values_are_refused() {
    for (value, named) in [
        ("ingresClass.default=true", "ingresClass"),
        ("ingressClass.defualt=true", "defualt"),
        ("flags.MAX_CONNECTIONS=1", "MAX_CONNECTIONS"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("imagePullSecrets[0]=registry", "imagePullSecrets"),
        ("imagePullSecrets[0].nmae=registry", "nmae"),
        ("priorityClassName=7", "priorityClassName"),
    ] {
        let error = chart_refuses(&[value]);
        assert!(error.contains(named), "{value}: {error}");
    }
}

/// Objects by kind, namespace and name. The order of environment variables, none of which names another, is put aside.
fn by_name(objects: &[Value]) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for object in objects {
        let mut object = object.clone();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}/{}", word(&object["kind"]), word(&object["metadata"]["namespace"]), word(&object["metadata"]["name"]));
        if let Some(env) = object.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut) {
            env.sort_by_key(|variable| word(&variable["name"]));
        }
        assert!(found.insert(name.clone(), object).is_none(), "{name} twice");
    }
    found
}
