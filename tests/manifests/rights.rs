//! What the roles grant, as far as it can be judged without an API server.

use serde_json::{Value, json};

use crate::rendered::{INSTALLATIONS, Installation};

#[test]
fn no_role_grants_more_than_it_says() {
    for installation in INSTALLATIONS.iter() {
        let serves_tls = installation.name == "overlays/https";
        for kind in ["ClusterRole", "Role"] {
            for rule in installation.object(kind)["rules"].as_array().unwrap() {
                let all = ["apiGroups", "resources", "verbs"].iter().flat_map(|field| rule[*field].as_array().unwrap());
                assert!(all.clone().all(|word| word != "*"), "{installation}: {rule}");
                assert!(
                    all.clone().all(|word| word != "secrets") || serves_tls,
                    "{installation}: nothing needs them where there is no TLS"
                );
                assert!(all.clone().all(|word| word != "delete" && word != "deletecollection"), "{installation}: {rule}");
                assert_eq!(rule.get("nonResourceURLs"), None, "{installation}: {rule}");
            }
        }
    }
}

#[test]
fn the_roles_are_bound_to_the_pods_account_alone() {
    for installation in INSTALLATIONS.iter() {
        let account = name(installation, "ServiceAccount");
        assert_eq!(installation.pod()["serviceAccountName"], account, "{installation}");
        for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
            let object = installation.object(binding);
            let subject = json!({ "kind": "ServiceAccount", "name": account, "namespace": "nodegate-system" });
            assert_eq!(object["subjects"], json!([subject]), "{installation}: {binding}");
            let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name(installation, role) });
            assert_eq!(object["roleRef"], reference, "{installation}: {binding}");
        }
    }
}

#[test]
fn only_the_pod_gets_the_accounts_token() {
    for installation in INSTALLATIONS.iter() {
        assert_eq!(installation.object("ServiceAccount")["automountServiceAccountToken"], false, "{installation}");
        assert_eq!(installation.pod()["automountServiceAccountToken"], true, "{installation}");
    }
}

fn name(installation: &Installation, kind: &str) -> Value {
    installation.object(kind)["metadata"]["name"].clone()
}
