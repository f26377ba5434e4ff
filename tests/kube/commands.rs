//! The command line against a cluster: what is looked at once, and what is left out.

use std::{path::Path, process::Command};

use tokio::task::block_in_place;

use crate::rig::{App, Cluster, Nodegate, objects};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_is_wrong_in_the_cluster_until_it_is_mended() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    objects::create_namespace(&client, "checked").await;
    objects::create(&client, "checked", &objects::ingress("web", "checked.example", "app")).await;
    let kubeconfig = cluster.nodegate_kubeconfig(cluster.api_address());

    let (code, text) = check(&kubeconfig, "checked");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Ingress checked/web") && text.contains("app"), "{text}");

    let _app = App::deploy(&client, "checked", "app").await;
    let (code, text) = check(&kubeconfig, "checked");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 Ingress, 0 errors"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_namespaces_than_the_watched_ones_are_left_alone() {
    let cluster = Cluster::shared();
    let client = cluster.client().await;
    let mut apps = Vec::new();
    for namespace in ["unwatched", "watched"] {
        objects::create_namespace(&client, namespace).await;
        apps.push(App::deploy(&client, namespace, "app").await);
        objects::create(&client, namespace, &objects::ingress("web", &format!("{namespace}.example"), "app")).await;
    }
    let kubeconfig = cluster.nodegate_kubeconfig(cluster.api_address());
    let mut nodegate = Nodegate::start_with(&kubeconfig, &["--watch-namespace", "watched"]).await;
    nodegate.ready().await;
    nodegate.serves("watched.example", "app").await;
    nodegate.refuses("unwatched.example", 404, "no_route").await;
}

/// Runs `nodegate check` on one namespace. Returns the exit code and everything it wrote.
fn check(kubeconfig: &Path, namespace: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
    command.args(["check", "--cluster", "--watch-namespace", namespace]);
    command.env("KUBECONFIG", kubeconfig).env_remove("KUBERNETES_SERVICE_HOST");
    let output = block_in_place(|| command.output()).expect("the nodegate binary");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}
