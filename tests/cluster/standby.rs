//! The shipped static pod that stands by, on a node.

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    images::NODEGATE,
    install::NAMESPACE,
    node::Node,
    wait::{PATIENCE, eventually},
};

/// What is shipped, and its pod's name without the node's.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/static-pod/nodegate-standby.yaml");
const NAME: &str = "nodegate-standby";

/// The pod, until it is removed.
pub struct Standby<'a> {
    node: &'a Node,
    file: PathBuf,
}

impl<'a> Standby<'a> {
    /// Puts the manifest where the node's kubelet finds it, with the tests' image, and waits until the pod stands by.
    pub async fn place(node: &'a Node) -> anyhow::Result<Self> {
        let mut pod: Value = serde_saphyr::from_str(&fs::read_to_string(MANIFEST)?)?;
        pod["spec"]["containers"][0]["image"] = json!(NODEGATE);
        let standby = Self { node, file: node.static_pods().join("nodegate-standby.json") };
        fs::write(&standby.file, pod.to_string())?;
        standby.has_begun(1).await?;
        Ok(standby)
    }

    /// Waits until it has begun so many times to stand by: when its container was started, and whenever it was relieved.
    pub async fn has_begun(&self, times: usize) -> anyhow::Result<()> {
        eventually(&format!("{} stands by on {}", NAME, self.node.name), PATIENCE, async || {
            let begun = self.log()?.matches("standing by: serving once").count();
            ensure!(begun >= times, "it has begun {begun} of {times} times");
            Ok(())
        })
        .await
    }

    /// Takes the file away, and waits until the kubelet has ended the pod.
    pub async fn remove(self, cluster: &Cluster) -> anyhow::Result<()> {
        fs::remove_file(&self.file)?;
        let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
        let here = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
        eventually(&format!("{} has no static pod", self.node.name), PATIENCE, async || {
            let left = pods.list(&here).await?.items.len();
            ensure!(left == 0, "there are {left}");
            Ok(())
        })
        .await
    }

    /// What its containers have said, one after the other.
    fn log(&self) -> anyhow::Result<String> {
        let own = format!("{NAMESPACE}_{NAME}-{}_", self.node.name);
        let mut log = String::new();
        for pod in fs::read_dir(self.node.pod_logs())?.flatten().filter(|pod| pod.file_name().to_string_lossy().starts_with(&own)) {
            for file in fs::read_dir(pod.path().join("nodegate")).with_context(|| format!("{}", pod.path().display()))? {
                log += &fs::read_to_string(file?.path())?;
            }
        }
        Ok(log)
    }
}
