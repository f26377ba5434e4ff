//! An edit as a pipeline makes one: applied, waited for with `nodegate wait`, and then in force on every node; an Event says so.

use std::{path::Path, process::Command};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use crate::{
    cluster::Cluster,
    http,
    sample::{ingress, list},
    tools,
    wait::{PATIENCE, eventually},
};

/// Edits one after the other.
const EDITS: usize = 5;
const NAME: &str = "edited";

/// Each node serves each edit at the first request after the wait for it. `service` is in that namespace, and answers.
pub async fn is_in_force_once_it_was_waited_for(cluster: &Cluster, namespace: &str, service: &str) -> anyhow::Result<()> {
    let nodes = cluster.nodes.len();
    for number in 0..EDITS {
        let host = format!("edit-{number}.example");
        cluster.apply(&list(&[ingress(namespace, NAME, &host, service)]))?;
        let said = wait(cluster, namespace)?;
        ensure!(
            said.starts_with(&format!("{namespace}/{NAME} is in force on {nodes} of {nodes} nodes (resourceVersion ")),
            "it says {said:?}"
        );
        for door in cluster.doors(80) {
            let answer = cluster.internet.within_async(async || http::get(door, &host, "/").await)?;
            ensure!(answer.status == 200 && answer.backend().is_some(), "{door} answered edit {number} with {answer}, after {said}");
        }
    }
    is_told(cluster, namespace).await?;
    println!("install: {EDITS} edits, each served by {nodes} nodes at the first request after `nodegate wait`");
    cluster.kubectl(&["delete", "ingress", NAME, &format!("--namespace={namespace}")])?;
    Ok(())
}

/// As a pipeline runs it, with the cluster's own kubeconfig. Its standard output.
fn wait(cluster: &Cluster, namespace: &str) -> anyhow::Result<String> {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_nodegate")));
    command.args(["wait", "--ingress", &format!("{namespace}/{NAME}")]).env("KUBECONFIG", cluster.kubeconfig());
    let output = tools::feed(command.env_remove("KUBERNETES_SERVICE_HOST"), "");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "nodegate wait failed ({}): {}{}", output.status, text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Waits for the Event of the last edit.
async fn is_told(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.kind=Ingress,involvedObject.name={NAME},reason=Programmed"));
    let nodes = cluster.nodes.len();
    eventually("an Event says that the edit is in force", PATIENCE, async || {
        let found: Vec<_> = events.list(&about).await?.into_iter().filter_map(|event| event.message).collect();
        ensure!(found == [format!("in force on {nodes}/{nodes} nodes")], "it says {found:?}");
        Ok(())
    })
    .await
}
