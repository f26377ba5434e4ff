//! A right as a role grants it, and as a request in the API server's audit log uses it. No I/O: the tests of an API server alone share this file.

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

/// Verb, API group, resource with its subresource.
pub type Right = (String, String, String);

/// What a role grants by one of its rules.
pub fn granted(rule: &PolicyRule) -> Vec<Right> {
    let (groups, resources) = (rule.api_groups.iter().flatten(), rule.resources.iter().flatten());
    let pairs = groups.flat_map(|group| resources.clone().map(move |resource| (group, resource)));
    pairs.flat_map(|(group, resource)| rule.verbs.iter().map(move |verb| (verb.clone(), group.clone(), resource.clone()))).collect()
}

/// What a request in the audit log asked for.
pub fn used(request: &Value) -> Right {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &request["objectRef"];
    let part = object["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
    (word(&request["verb"]), word(&object["apiGroup"]), word(&object["resource"]) + &part)
}
