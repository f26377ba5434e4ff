//! Install, upgrade of the configuration, uninstall, as shipped: no request fails, no right is missing or spare, nothing is left. Both ways to port 80.

mod edit;
mod inventory;
pub mod process;
mod right;
pub mod rights;
pub mod shop;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

use anyhow::{Context, ensure};
use serde_json::json;

use self::{
    inventory::Inventory,
    process::Process,
    rights::{Requests, Roles},
};
use crate::{
    cluster::Cluster,
    http,
    images::NODEGATE_UNCAPPED,
    install::{self, Installed},
    load::Load,
    node::Node,
};

/// What is installed: nothing but the base.
const BASE: &str = "base";
/// Requests a second, over all three nodes, and how many at least before an upgrade and after it.
const RATE: u32 = 60;
const AROUND: u32 = 60;
/// The admin address, on each node's loopback.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
/// A setting that changes nothing for the load.
const HARMLESS: (&str, &str) = ("NODEGATE_KEEP_ALIVE_TIMEOUT", "5m");
/// From which port on anybody may listen, and the kernel's own choice of it.
const PORT_START: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
const DEFAULT_PORT_START: &str = "1024";

pub async fn lifecycle(cluster: &Cluster) -> anyhow::Result<()> {
    shop::open(cluster).await?;
    let before = Inventory::take(cluster)?;
    let requests = Requests::from_now()?;

    let installed = install::nodegate(cluster, BASE, &[]).await?;
    cluster.serves(shop::HOST).await?;
    sockets_were_handed_over(cluster, false)?;
    listens_by_its_file_capability(cluster)?;
    let written = shop::has_every_address(cluster).await?;
    shop::makes_a_mistake(cluster).await?;
    upgrade(cluster, &installed).await?;
    listens_by_its_file_capability(cluster)?;
    shop::was_left_alone(cluster, &written).await?;
    edit::is_in_force_once_it_was_waited_for(cluster, shop::NAMESPACE, shop::SERVICE).await?;
    let roles = Roles::of(cluster).await?;
    every_right_is_used(cluster, &requests, &roles).await?;
    let began = Instant::now();
    install::uninstall(cluster, installed)?;
    println!("install: removed in {:.1} s", began.elapsed().as_secs_f32());
    before.is_restored(cluster).await.context("after the installation was removed")?;

    set_port_start(cluster, "0")?;
    let outcome = by_the_sysctl(cluster, &requests).await;
    set_port_start(cluster, DEFAULT_PORT_START)?;
    outcome?;
    shop::keeps_its_addresses(cluster, &before).await.context("after the second installation was removed at once")?;
    before.is_restored(cluster).await.context("after the second installation was removed")?;
    Requests::ever().none_exceeded(&roles)?;
    shop::close(cluster)
}

/// A new configuration on one node after the other, each of which hands its sockets to the new process.
async fn upgrade(cluster: &Cluster, installed: &Installed) -> anyhow::Result<()> {
    // Within `minReadySeconds` a pod isn't available yet, and the controller replaces such ones on all nodes at once.
    install::rollout(cluster, &["status", "--timeout=60s"])?;
    let old = Process::on_every_node(cluster)?;
    let load = Load::start(&cluster.internet, &cluster.doors(80), shop::HOST, RATE);
    load.ended(AROUND).await?;
    let began = Instant::now();
    let changed = install::change(cluster, installed, &[HARMLESS]).await;
    let took = began.elapsed();
    let after = load.ended(AROUND).await;
    let tally = load.stop();
    changed?;
    after?;
    println!(
        "install: upgrade of three nodes in {:.1} s, {} of {} requests failed, slowest {:.3} s, longest gap at a node {:.2} s",
        took.as_secs_f32(),
        tally.failed.len(),
        tally.sent,
        tally.slowest.as_secs_f32(),
        tally.longest_gap.as_secs_f32(),
    );
    let new = Process::on_every_node(cluster)?;
    sockets_were_handed_over(cluster, true)?;
    ensure!(new.iter().all(|new| old.iter().all(|old| old.pid != new.pid)), "a process stayed: {old:#?}, {new:#?}");
    tally.all_succeeded().context("an upgrade costs no request")
}

/// As shipped, on nodes as they are: one ordinary process on each, with that capability and no other.
fn listens_by_its_file_capability(cluster: &Cluster) -> anyhow::Result<()> {
    port_starts_at(cluster, DEFAULT_PORT_START)?;
    Process::on_every_node(cluster)?.iter().try_for_each(|process| process.is_restricted_to(process::NET_BIND_SERVICE))
}

/// Whether each node's process has its sockets from another one, or else has bound them itself.
fn sockets_were_handed_over(cluster: &Cluster, expected: bool) -> anyhow::Result<()> {
    let wanted = format!("nodegate_handovers_total{{outcome=\"taken\"}} {}", u8::from(expected));
    for node in &cluster.nodes {
        let metrics = node.namespace.within_async(async || http::get(ADMIN, "localhost", "/metrics").await)?;
        let seen = metrics.body.lines().find(|line| line.starts_with("nodegate_handovers_total{outcome=\"taken\"}"));
        ensure!(seen == Some(&wanted), "{}: expected {wanted}, saw {seen:?}", node.name);
    }
    Ok(())
}

/// An executable without the capability, in a pod that is allowed none, on nodes that let anybody have port 80.
async fn by_the_sysctl(cluster: &Cluster, requests: &Requests) -> anyhow::Result<()> {
    cluster.load(NODEGATE_UNCAPPED);
    let capabilities = json!({ "securityContext": { "capabilities": { "add": null } } });
    let installed = install::patched(cluster, BASE, NODEGATE_UNCAPPED, capabilities).await?;
    cluster.serves(shop::HOST).await?;
    port_starts_at(cluster, "0")?;
    sockets_were_handed_over(cluster, false)?;
    Process::on_every_node(cluster)?.iter().try_for_each(|process| process.is_restricted_to(0))?;
    shop::has_every_address(cluster).await?;
    // Until its roles go, that is.
    requests.none_was_refused()?;
    let began = Instant::now();
    install::uninstall_at_once(cluster, installed)?;
    println!("install: removed at once in {:.1} s", began.elapsed().as_secs_f32());
    for node in &cluster.nodes {
        node.run(&["ctr", "--namespace=k8s.io", "images", "remove", NODEGATE_UNCAPPED]);
    }
    Ok(())
}

/// What neither installation nor load has called for: the end of a mistake, which the leader before has told of, and `check` as people run it.
async fn every_right_is_used(cluster: &Cluster, requests: &Requests, roles: &Roles) -> anyhow::Result<()> {
    shop::mends_it(cluster).await?;
    let check = ["exec", "--namespace=nodegate-system", "daemonset/nodegate", "--", "/nodegate", "check", "--cluster"];
    cluster.kubectl(&check).context("check has nothing to find in a cluster without mistakes")?;
    let count = requests.use_every_right(roles).await?;
    println!("install: {count} rights, each of them used");
    Ok(())
}

fn port_starts_at(cluster: &Cluster, expected: &str) -> anyhow::Result<()> {
    for node in &cluster.nodes {
        let seen = port_start(node)?;
        ensure!(seen == expected, "{}: {PORT_START} is {seen}, not {expected}", node.name);
    }
    Ok(())
}

/// The kernel shows each thread the setting of its own network namespace.
fn port_start(node: &Node) -> anyhow::Result<String> {
    Ok(node.namespace.within(|| fs::read_to_string(PORT_START))?.trim().to_owned())
}

fn set_port_start(cluster: &Cluster, value: &str) -> anyhow::Result<()> {
    cluster.nodes.iter().try_for_each(|node| node.namespace.within(|| fs::write(PORT_START, value)).context(PORT_START))
}
