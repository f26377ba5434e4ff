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
        // Its pod is called as the one before it, by a hash of what is in the file.
        standby.logs()?.into_iter().try_for_each(fs::remove_dir_all)?;
        fs::write(&standby.file, pod.to_string())?;
        standby.has_begun(1).await?;
        Ok(standby)
    }

    /// Waits until the container that runs now has begun so many times to stand by: once when it was started, and again whenever it was relieved, in the same
    /// process.
    pub async fn has_begun(&self, times: usize) -> anyhow::Result<()> {
        eventually(&format!("{NAME} stands by on {}", self.node.name), PATIENCE, async || {
            let begun = self.log()?.matches("standing by: serving once").count();
            ensure!(begun == times, "it has begun {begun} of {times} times");
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

    /// What the container has said that was started last.
    fn log(&self) -> anyhow::Result<String> {
        let mut files = Vec::new();
        for pod in self.logs()? {
            // One for each start, by number.
            files.extend(fs::read_dir(pod.join("nodegate"))?.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<_>>>()?);
        }
        let number = |file: &PathBuf| file.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok());
        let last = files.into_iter().max_by_key(number).context("no log")?;
        Ok(fs::read_to_string(last)?)
    }

    /// The directories with the logs of its pods, those that were removed included.
    fn logs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let own = format!("{NAMESPACE}_{NAME}-{}_", self.node.name);
        let all = fs::read_dir(self.node.pod_logs())?.flatten();
        Ok(all.filter(|pod| pod.file_name().to_string_lossy().starts_with(&own)).map(|pod| pod.path()).collect())
    }
}
