//! Wires: the sandbox's own namespace is switch and router between the nodes and a network of clients. Documentation addresses, no uplink.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    process::Command,
};

use crate::{namespace::Namespace, node::Node, tools};

/// The bridge in the sandbox's own namespace, and the nodes' default route.
const ROUTER: &str = "198.51.100.1";
const BRIDGE: &str = "nodes";
/// The clients' network and the router's address in it.
const CLIENTS_ROUTER: &str = "203.0.113.1";
/// The addresses of the client namespace: 203.0.113.10 to .19.
pub const CLIENTS: std::ops::RangeInclusive<u8> = 10..=19;

/// The address of a node, counted from 1.
pub fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 10 + number)
}

/// An address of the client namespace; the last number is one of [`CLIENTS`].
pub fn client_address(last: u8) -> IpAddr {
    assert!(CLIENTS.contains(&last), "203.0.113.{last} is not in the client namespace");
    IpAddr::from([203, 0, 113, last])
}

/// Makes the switch and router out of the namespace that we are in.
pub fn set_up_router() {
    forward_packets("/proc/sys/net/ipv4");
    ip(&format!("link set lo up\nlink add {BRIDGE} type bridge\naddr add {ROUTER}/24 dev {BRIDGE}\nlink set {BRIDGE} up\n"));
}

/// The clients' namespace, behind the router. Nothing masquerades: nodes see a client's own address.
pub fn set_up_internet() -> Namespace {
    let internet = Namespace::create("");
    ip(&format!(
        "link add internet type veth peer name eth0 netns {}\naddr add {CLIENTS_ROUTER}/24 dev internet\nlink set internet up\n",
        internet.holder()
    ));
    let addresses: String = CLIENTS.map(|last| format!("addr add {}/24 dev eth0\n", client_address(last))).collect();
    ip_in(&internet, &format!("{addresses}link set eth0 up\nroute add default via {CLIENTS_ROUTER}\n"));
    internet
}

/// Joins a node to the bridge, and to the overlay as flannel makes it: VXLAN number 1 over UDP 8472, a /24 of pods for each node.
pub fn join_node(node: &Namespace, number: u8, nodes: u8) {
    ip(&format!(
        "link add {link} type veth peer name eth0 netns {}\nlink set {link} master {BRIDGE} up\n",
        node.holder(),
        link = link_name(number)
    ));
    let local = node_address(number);
    let mut lines = format!(
        "addr add {local}/24 dev eth0\nlink set eth0 up\nroute add default via {ROUTER}\n\
         link add flannel.1 type vxlan id 1 dev eth0 local {local} dstport 8472 nolearning\n\
         link set flannel.1 address {mac} mtu 1450\naddr add 10.42.{number}.0/32 dev flannel.1\nlink set flannel.1 up\n",
        mac = overlay_mac(number)
    );
    let mut forwarding = String::new();
    for other in (1..=nodes).filter(|other| *other != number) {
        let mac = overlay_mac(other);
        lines += &format!("route add 10.42.{other}.0/24 via 10.42.{other}.0 dev flannel.1 onlink\n");
        lines += &format!("neigh add 10.42.{other}.0 lladdr {mac} dev flannel.1 nud permanent\n");
        forwarding += &format!("fdb append {mac} dev flannel.1 dst {}\n", node_address(other));
    }
    ip_in(node, &lines);
    tools::run_with(&mut node.command(&["bridge", "-batch", "-"]), &forwarding);
    node.within(|| forward_packets("/proc/sys/net/ipv4"));
}

/// Pulls a node's cable, or puts it back.
pub fn set_link(number: u8, up: bool) {
    ip(&format!("link set {} {}\n", link_name(number), if up { "up" } else { "down" }));
}

/// Drops everything that two nodes send each other over the overlay, or no longer.
pub fn set_overlay(a: &Node, b: &Node, broken: bool) {
    let action = if broken { "--insert" } else { "--delete" };
    for (node, peer) in [(a, b), (b, a)] {
        for (chain, direction) in [("INPUT", "--source"), ("OUTPUT", "--destination")] {
            let peer = peer.address.to_string();
            node.run(&["iptables", "--wait", action, chain, direction, &peer, "--protocol", "udp", "--dport", "8472", "--jump", "DROP"]);
        }
    }
}

/// The router's end of a node's cable.
fn link_name(number: u8) -> String {
    format!("n{number}")
}

fn overlay_mac(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn forward_packets(settings: &str) {
    for (name, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")] {
        fs::write(format!("{settings}/{name}"), value).unwrap_or_else(|error| panic!("{settings}/{name}: {error}"));
    }
}

fn ip(lines: &str) {
    tools::run_with(Command::new("ip").args(["-batch", "-"]), lines);
}

fn ip_in(namespace: &Namespace, lines: &str) {
    tools::run_with(&mut namespace.command(&["ip", "-batch", "-"]), lines);
}
