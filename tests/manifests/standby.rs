//! The static pod that stands by: the DaemonSet's pod, but for what a static pod may not have, and for what standing by is.

use k8s_openapi::api::core::v1::Pod;
use nodegate::config::AfterHandover;
use serde_json::{Value, json};

use crate::{
    pod::{through, variable},
    rendered::{manifests, overlay},
    settings::of_container,
};

fn standby() -> Value {
    let text = std::fs::read_to_string(manifests().join("static-pod/nodegate-standby.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Takes the fields out that differ on purpose, and returns them.
fn take(object: &mut Value, fields: &[&str]) -> Vec<Option<Value>> {
    fields.iter().map(|field| object.as_object_mut().unwrap().remove(*field)).collect()
}

#[test]
fn it_is_the_daemon_sets_pod_but_for_what_is_said_here() {
    let (mut ours, mut theirs) = (standby(), overlay("state").pod().clone());
    assert_eq!(through::<Pod>(&ours), ours, "left: what the type keeps, right: what is written");
    assert_eq!(ours["metadata"]["labels"]["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"));
    let (mut own, mut other) = (ours["spec"]["containers"][0].take(), theirs["containers"][0].take());
    // A static pod has no account, no init container runs as root again, and the kubelet lets no taint evict it.
    let dropped = ["serviceAccountName", "automountServiceAccountToken", "initContainers", "tolerations", "restartPolicy"];
    take(&mut theirs, &dropped);
    assert_eq!(
        take(&mut ours["spec"], &dropped),
        [None, Some(json!(false)), None, None, Some(json!("Always"))],
        "the account's token, and the policy"
    );
    ours["spec"]["volumes"][0]["hostPath"]["type"] = json!("DirectoryOrCreate");
    assert_eq!(ours["spec"], theirs);

    // It changes nothing on the disk, and is neither waited for nor counted on.
    assert_eq!(own["volumeMounts"][0].as_object_mut().unwrap().remove("readOnly"), Some(json!(true)));
    for differing in ["env", "startupProbe", "readinessProbe"] {
        take(&mut own, &[differing]);
        take(&mut other, &[differing]);
    }
    for container in [&mut own, &mut other] {
        take(&mut container["resources"], &["requests"]);
    }
    assert_eq!(own, other);
}

#[test]
fn both_meet_and_serve_alike() {
    let (ours, theirs) = (of_container(&standby()["spec"]["containers"][0]), of_container(overlay("state").container()));
    let state = |settings: &nodegate::config::ServeSettings| settings.state.clone().unwrap();
    assert!(state(&ours).standby && !state(&theirs).standby);
    assert!(ours.handover.name.is_some());
    assert_eq!((state(&ours).path, ours.admin, &ours.handover.name), (state(&theirs).path, theirs.admin, &theirs.handover.standby));
    assert_eq!(ours.handover.after, AfterHandover::Exit, "it stands by again");
    let served = |shown: &Value| {
        let mut shown = shown.clone();
        for own in ["standby", "cluster"] {
            shown.as_object_mut().unwrap().remove(own);
        }
        shown
    };
    assert_eq!(served(&ours.shown), served(&theirs.shown));
}

#[test]
fn the_unit_is_as_restricted_as_that_of_a_version_and_is_given_what_the_pod_is() {
    let unit = |name: &str| std::fs::read_to_string(manifests().join("systemd").join(name)).unwrap();
    let (ours, theirs) = (unit("nodegate-standby.service"), unit("nodegate@.service"));
    let restrictions = |unit: &str| unit.split_once("# Half of them for either side.\n").unwrap().1.to_owned();
    assert_eq!(restrictions(&ours), restrictions(&theirs));
    let user = overlay("state").pod()["securityContext"]["runAsUser"].to_string();
    for line in [format!("User={user}"), format!("Group={user}"), "Restart=always".to_owned()] {
        assert!(ours.lines().any(|other| other == line), "{line}");
    }
    let pod = standby();
    for (name, value) in ours.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('=')) {
        assert_eq!(variable(&pod["spec"]["containers"][0], name), Some(value), "{name}");
    }
}
