//! What must hold for the pod, and for every object, of every installation.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, ServiceAccount},
    networking::v1::IngressClass,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use nodegate::config::limits::{DRAIN_MARGIN, DRAIN_TIMEOUT, LOG_FINISH_TIMEOUT};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::rendered::{INSTALLATIONS, chart_with, manifests, overlay};

/// Taking the node's address out of the Ingresses' status, before the drain.
const WITHDRAWAL: Duration = Duration::from_secs(5);

#[test]
fn kubernetes_types_know_every_field() {
    for installation in INSTALLATIONS.iter() {
        for object in &installation.kustomize {
            let again = match object["kind"].as_str().unwrap() {
                "ClusterRole" => through::<ClusterRole>(object),
                "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
                "DaemonSet" => through::<DaemonSet>(object),
                "IngressClass" => through::<IngressClass>(object),
                "Namespace" => through::<Namespace>(object),
                "Role" => through::<Role>(object),
                "RoleBinding" => through::<RoleBinding>(object),
                "ServiceAccount" => through::<ServiceAccount>(object),
                other => panic!("{installation}: {other} is new here"),
            };
            assert_eq!(again, *object, "{installation}\nleft: what the type keeps, right: what is written");
        }
    }
}

#[test]
fn a_new_pod_can_start_beside_the_old_one() {
    for installation in INSTALLATIONS.iter() {
        let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
        assert_eq!(installation.object("DaemonSet")["spec"]["updateStrategy"], rolling, "{installation}");
        assert_eq!(
            installation.container().get("ports"),
            None,
            "{installation}: they would be host ports, and the second pod couldn't be placed"
        );
    }
}

#[test]
fn a_rollout_waits_at_each_pod_whether_it_dies_soon_after_it_is_ready() {
    for installation in INSTALLATIONS.iter() {
        assert_eq!(installation.object("DaemonSet")["spec"]["minReadySeconds"], 5, "{installation}");
    }
}

#[test]
fn the_pod_is_on_servers_too_and_respects_other_taints() {
    for installation in INSTALLATIONS.iter() {
        let tolerated = json!([
            { "key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule" },
            { "key": "CriticalAddonsOnly", "operator": "Exists" },
        ]);
        assert_eq!(installation.pod()["tolerations"], tolerated, "{installation}");
    }
}

#[test]
fn the_pod_is_in_the_hosts_network_and_knows_the_clusters_names() {
    for installation in INSTALLATIONS.iter() {
        let pod = installation.pod();
        assert_eq!(pod["hostNetwork"], true, "{installation}");
        assert_eq!(pod["dnsPolicy"], "ClusterFirstWithHostNet", "{installation}");
        assert_eq!(pod["priorityClassName"], "system-node-critical", "{installation}");
        let level = &installation.object("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(level, "privileged", "{installation}: milder levels forbid the host's network");
    }
}

#[test]
fn pull_secrets_and_another_priority_reach_the_charts_pod() {
    let pod = |values: &[&str]| {
        let objects = chart_with(values);
        objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap()["spec"]["template"]["spec"].clone()
    };
    let with = pod(&["priorityClassName=edge", "imagePullSecrets[0].name=registry", "imagePullSecrets[1].name=mirror"]);
    assert_eq!(
        (&with["priorityClassName"], &with["imagePullSecrets"]),
        (&json!("edge"), &json!([{"name": "registry"}, {"name": "mirror"}]))
    );
    let without = pod(&["priorityClassName="]);
    assert_eq!((without.get("priorityClassName"), without.get("imagePullSecrets")), (None, None), "the cluster's default, and none");
}

#[test]
fn the_process_may_do_nothing_but_listen_on_low_ports() {
    for installation in INSTALLATIONS.iter() {
        let of_pod = json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" },
        });
        assert_eq!(installation.pod()["securityContext"], of_pod, "{installation}");
        let of_container = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] },
        });
        assert_eq!(installation.container()["securityContext"], of_container, "{installation}");
        for shared in ["hostPID", "hostIPC"] {
            assert_eq!(installation.pod().get(shared), None, "{installation}: {shared}");
        }
        for of_disk in ["volumes", "initContainers"] {
            assert_eq!(installation.pod().get(of_disk).is_some(), installation.name == "overlays/state", "{installation}: {of_disk}");
        }
    }
}

#[test]
fn root_gives_the_state_s_directory_away_and_may_do_little_else() {
    let installation = overlay("state");
    let directory = variable(installation.container(), "NODEGATE_STATE_DIR").unwrap();
    let volume = json!([{ "name": "state", "hostPath": { "path": directory, "type": "DirectoryOrCreate" } }]);
    assert_eq!(installation.pod()["volumes"], volume);
    let [init] = &installation.pod()["initContainers"].as_array().unwrap()[..] else { panic!("one") };
    assert_eq!(init["image"], installation.container()["image"]);
    let user = &installation.pod()["securityContext"];
    let owner = format!("--owner={}:{}", user["runAsUser"], user["runAsGroup"]);
    assert_eq!(init["args"], json!(["prepare", format!("--state-dir={directory}"), owner]));
    let rights = json!({
        "runAsNonRoot": false, "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"] },
    });
    assert_eq!(init["securityContext"], rights);
    for container in [init, installation.container()] {
        assert_eq!(container["volumeMounts"], json!([{ "name": "state", "mountPath": directory }]));
    }
}

#[test]
fn a_drain_is_over_before_the_kubelet_kills() {
    for installation in INSTALLATIONS.iter() {
        let granted = Duration::from_secs(installation.pod()["terminationGracePeriodSeconds"].as_u64().unwrap());
        let needed = WITHDRAWAL + DRAIN_TIMEOUT + DRAIN_MARGIN + LOG_FINISH_TIMEOUT;
        assert!(granted > needed, "{installation}: {granted:?} for {needed:?}");
        assert_eq!(variable(installation.container(), "NODEGATE_DRAIN_TIMEOUT"), None, "{installation}: then that counts");
    }
}

#[test]
fn memory_is_limited_and_processor_time_is_not() {
    for installation in INSTALLATIONS.iter() {
        let resources = &installation.container()["resources"];
        assert!(resources["limits"]["memory"].is_string(), "{installation}");
        assert_eq!(resources["limits"].get("cpu"), None, "{installation}: the kernel would stop all workers for the rest of each period");
        assert!(resources["requests"]["memory"].is_string() && resources["requests"]["cpu"].is_string(), "{installation}");
    }
}

#[test]
fn objects_can_be_found_by_their_labels_and_the_pods_by_the_daemon_set() {
    for installation in INSTALLATIONS.iter() {
        for object in &installation.kustomize {
            let labels = &object["metadata"]["labels"];
            let (name, version) = (&labels["app.kubernetes.io/name"], &labels["app.kubernetes.io/version"]);
            assert_eq!((name, version), (&json!("nodegate"), &json!(env!("CARGO_PKG_VERSION"))), "{installation}: {}", object["kind"]);
        }
        let spec = &installation.object("DaemonSet")["spec"];
        for (label, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(spec["template"]["metadata"]["labels"][label], *value, "{installation}");
            // A selector can't be changed later: an upgrade would be refused.
            assert_ne!(label, "app.kubernetes.io/version", "{installation}");
        }
    }
}

#[test]
fn the_image_and_the_chart_are_of_this_version() {
    for installation in INSTALLATIONS.iter() {
        assert_eq!(installation.container()["image"], format!("nodegate:{}", env!("CARGO_PKG_VERSION")), "{installation}");
    }
    let chart = std::fs::read_to_string(manifests().join("helm/nodegate/Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_chart_is_for_the_versions_of_kubernetes_that_the_guide_is_for() {
    let chart = std::fs::read_to_string(manifests().join("helm/nodegate/Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    let oldest = chart["kubeVersion"].as_str().unwrap().strip_prefix(">=").unwrap().strip_suffix(".0-0").unwrap().to_owned();
    let guide = std::fs::read_to_string(manifests().join("../docs/install-k3s.md")).unwrap();
    assert!(guide.contains(&format!("{oldest} and newer")), "{oldest}");
}

/// The value of a container's environment variable.
pub fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

/// The object as the type has it: what the type doesn't know is lost.
pub fn through<K: DeserializeOwned + Serialize + Debug>(object: &Value) -> Value {
    let typed: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    serde_json::to_value(typed).unwrap()
}
