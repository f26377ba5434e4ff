//! Installs Nodegate as an operator does: `kubectl apply -k` of a shipped overlay, with the tests' image and a few settings of the scenario's.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use kube::{Api, api::ListParams};

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, WORK},
    http,
    images::NODEGATE,
    node::Node,
    tools,
    wait::{PATIENCE, eventually},
};

pub const NAMESPACE: &str = "nodegate-system";
/// The overlay of the reference deployment.
pub const K3S_CLOUDFLARE: &str = "overlays/k3s-cloudflare";
/// The clients' first addresses count as Cloudflare's, up to 203.0.113.15; the others don't.
pub const CLIENTS_ARE_CLOUDFLARE: (&str, &str) = ("NODEGATE_CLOUDFLARE_RANGES", "203.0.113.8/29");

/// Where a node's Nodegate answers questions about itself, on the loopback.
const ADMIN_PORT: u16 = 9080;
/// One new pod a node, each of which hands its sockets over and waits out its `minReadySeconds`.
const ROLLOUT: Duration = Duration::from_mins(2);

/// What [`nodegate`] has installed, until [`uninstall`].
#[derive(Debug)]
pub struct Installed {
    overlay: String,
}

/// Installs Nodegate and waits until it serves on every node. `overlay` is a directory below `manifests`: `base`, [`K3S_CLOUDFLARE`]; `settings` are
/// environment variables.
pub async fn nodegate(cluster: &Cluster, overlay: &str, settings: &[(&str, &str)]) -> anyhow::Result<Installed> {
    let installed = Installed { overlay: overlay.to_owned() };
    change(cluster, &installed, settings).await?;
    Ok(installed)
}

/// As [`nodegate`], of another image, and with fields of the container to be merged into the shipped ones.
pub async fn patched(cluster: &Cluster, overlay: &str, image: &str, container: Value) -> anyhow::Result<Installed> {
    let installed = Installed { overlay: overlay.to_owned() };
    apply(cluster, &installed, image, container).await?;
    Ok(installed)
}

/// Gives an installation these settings instead of those that it had, and waits until every node has its new pod alone.
pub async fn change(cluster: &Cluster, installed: &Installed, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let settings: Vec<_> = settings.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let container = if settings.is_empty() { json!({}) } else { json!({ "env": settings }) };
    apply(cluster, installed, NODEGATE, container).await
}

async fn apply(cluster: &Cluster, installed: &Installed, image: &str, container: Value) -> anyhow::Result<()> {
    let directory = Path::new(WORK).join("installation");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("kustomization.yaml"), kustomization(&directory, &installed.overlay, image, container)?)?;
    cluster.kubectl(&["apply", "--kustomize", &directory.to_string_lossy()])?;
    rolled_out(cluster).await
}

/// `kubectl rollout VERB` of Nodegate.
pub fn rollout(cluster: &Cluster, verb: &[&str]) -> anyhow::Result<()> {
    cluster.rollout(NAMESPACE, "daemonset/nodegate", verb)
}

/// Gives the pods' template these fields, which begins a rollout.
pub fn patch_pods(cluster: &Cluster, fields: &Value) -> anyhow::Result<()> {
    let patch = json!({ "spec": { "template": { "spec": fields } } }).to_string();
    cluster.kubectl(&["patch", "daemonset/nodegate", "--namespace", NAMESPACE, "--patch", &patch]).map(drop)
}

/// Waits until every node has one pod of the newest revision, ready, and no other one.
pub async fn rolled_out(cluster: &Cluster) -> anyhow::Result<()> {
    let client = cluster.client();
    let (sets, pods) = (Api::<DaemonSet>::namespaced(client.clone(), NAMESPACE), Api::<Pod>::namespaced(client, NAMESPACE));
    let wanted = i32::try_from(cluster.nodes.len())?;
    eventually("Nodegate is rolled out on all nodes", ROLLOUT, async || {
        let found = sets.get("nodegate").await?;
        let generation = found.metadata.generation;
        let status = found.status.unwrap_or_default();
        let updated = status.updated_number_scheduled.unwrap_or_default();
        let left = pods.list(&ListParams::default()).await?.items.len();
        ensure!(
            status.observed_generation == generation && [updated, status.number_ready, i32::try_from(left)?] == [wanted; 3],
            "{updated} new, {} ready and {left} pods at all, on {wanted} nodes",
            status.number_ready
        );
        Ok(())
    })
    .await
}

/// Removes Nodegate, the DaemonSet first: while its roles are there, its last pod takes the nodes' addresses out of the Ingresses.
pub fn uninstall(cluster: &Cluster, installed: Installed) -> anyhow::Result<()> {
    let namespace = format!("--namespace={NAMESPACE}");
    cluster.kubectl(&["delete", "daemonset", "nodegate", &namespace, "--cascade=foreground", "--timeout=90s"])?;
    uninstall_at_once(cluster, installed)
}

/// Removes Nodegate with the roles that its pods would need to withdraw what they wrote: what the nodes' addresses are in keeps them. Of the shipped
/// overlay itself, not of the kustomization that was applied: they hold the same objects.
pub fn uninstall_at_once(cluster: &Cluster, installed: Installed) -> anyhow::Result<()> {
    let Installed { overlay } = installed;
    let overlay = format!("{}/manifests/{overlay}", env!("CARGO_MANIFEST_DIR"));
    cluster.kubectl(&["delete", "--kustomize", &overlay, "--ignore-not-found", "--timeout=90s"])?;
    fs::remove_dir_all(Path::new(WORK).join("installation"))?;
    Ok(())
}

/// Kills the one process of Nodegate's on a node, and waits until it is gone. The kubelet starts another one.
pub async fn kill(node: &Node) -> anyhow::Result<()> {
    // As the sandbox counts.
    let holder = node.namespace.holder().to_string();
    let found = node.run(&["pgrep", "--ns", &holder, "--nslist", "net", "--full", "^/nodegate serve"]);
    let found: Vec<&str> = found.split_whitespace().collect();
    ensure!(found.len() == 1, "{}: processes {found:?}, not one", node.name);
    tools::run(Command::new("kill").args(["-KILL", found[0]]));
    let process = Path::new("/proc").join(found[0]);
    let is_gone = async || if process.exists() { Err("it is there") } else { Ok(()) };
    eventually("a killed process is gone", PATIENCE, is_gone).await
}

/// A counter or gauge without labels, as this node's Nodegate shows it.
pub fn metric(node: &Node, name: &str) -> anyhow::Result<u64> {
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
    let page = node.namespace.within_async(async || http::get(admin, "localhost", "/metrics").await)?.body;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("{}: no metric {name}", node.name))?;
    value.parse().with_context(|| format!("{}: {name} is {value}", node.name))
}

/// A kustomization of one's own, as docs/install-k3s.md recommends it. Kustomize takes relative paths only.
fn kustomization(directory: &Path, overlay: &str, image: &str, mut container: Value) -> anyhow::Result<String> {
    let up = "/..".repeat(directory.components().count() - 1);
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
    let (name, tag) = image.rsplit_once(':').with_context(|| format!("{image} has no tag"))?;
    let mut kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [format!(".{up}{manifests}/{overlay}")],
        "images": [{ "name": "nodegate", "newName": name, "newTag": tag }],
    });
    // What is shipped is installed as it is, unless something is to be changed.
    if container != json!({}) {
        container["name"] = "nodegate".into();
        let patch = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "nodegate" },
            "spec": { "template": { "spec": { "containers": [container] } } },
        });
        kustomization["patches"] = json!([{ "patch": patch.to_string() }]);
    }
    Ok(kustomization.to_string())
}
