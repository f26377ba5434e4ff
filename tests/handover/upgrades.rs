//! What goes well: nobody notices that another process serves.

use std::{fs, path::Path};

use rustix::process::{Signal, geteuid};

use crate::{
    load::Load,
    rig::Node,
    support::{GET, Wire, eventually},
};

#[test]
fn three_generations_with_different_workers_lose_no_request() {
    let node = Node::new();
    let mut first = node.start(&["--workers", "1", "--after-handover", "exit"]);
    let load = Load::start(&node);
    let mut second = node.start(&["--workers", "4", "--after-handover", "exit"]);
    second.wait_for("taken over");
    first.wait_for("handed over");
    load.wait_for_more(500);
    first.wait_for("drained");
    second.wait_for("the process before this one has ended");
    let third = node.start(&["--workers", "2", "--after-handover", "exit"]);
    load.wait_for_more(500);
    second.wait_for("drained");
    load.wait_for_more(500);
    assert!(load.stop() > 1500);
    assert_eq!([first.exit().code(), second.exit().code()], [Some(0); 2]);
    assert_eq!(third.times("taken over"), 1);
    assert!(node.page("/metrics").contains("nodegate_handovers_total{outcome=\"taken\"} 1"), "{}", node.page("/metrics"));
}

#[test]
fn every_socket_of_the_old_process_is_accepted_from() {
    let node = Node::new();
    let mut first = node.start(&["--workers", "4"]);
    let _second = node.start(&["--workers", "2"]);
    first.wait_for("handed over");
    // The kernel picks one of four sockets by a hash: that it misses one in a hundred tries has a chance of 1 in 10^12.
    (0..100).for_each(|_| node.assert_serves());
    first.signal(Signal::TERM);
    assert_eq!(first.exit().code(), Some(0));
    (0..100).for_each(|_| node.assert_serves());
}

#[test]
fn a_pods_old_process_stands_by_until_its_signal() {
    let node = Node::new();
    let mut first = node.start(&[]);
    let mut idle = Wire::connect(node.http);
    assert_eq!(idle.exchange(GET).text(), "hello");
    let load = Load::start(&node);
    let connections = load.connections();
    let second = node.start(&["--workers", "2"]);
    first.wait_for("handed over");
    load.wait_for_reconnects(connections);
    // What it accepted before, it serves on, and asks to come again.
    let response = idle.exchange(GET);
    assert_eq!((response.text(), response.head.field("connection")), ("hello", Some("close")));
    assert!(first.is_running() && first.logged("drain").is_none());
    first.signal(Signal::TERM);
    first.wait_for("drained");
    second.wait_for("the process before this one has ended");
    load.wait_for_more(300);
    load.stop();
    assert_eq!(first.exit().code(), Some(0));
}

#[test]
fn a_new_process_that_is_ended_gives_back() {
    let node = Node::new();
    let first = node.start(&[]);
    // Connections that are idle when it drains are closed, as ever: so only new ones.
    let load = Load::of_new_connections(&node);
    let mut second = node.start(&["--workers", "2"]);
    first.wait_for("handed over");
    load.wait_for_more(100);
    // One that says nothing: it keeps the new process busy for a second.
    let _silent = Wire::connect(node.http);
    second.signal(Signal::TERM);
    first.wait_for("accepting again");
    // And all that time nobody but the old one answers.
    (0..50).for_each(|_| assert_eq!(node.page("/readyz"), "ok\n"));
    second.wait_for("drained");
    load.wait_for_more(100);
    load.stop();
    assert_eq!(second.exit().code(), Some(0));
    assert!(node.page("/metrics").contains("nodegate_handovers_total{outcome=\"taken_back\"} 1"));
}

#[test]
fn addresses_may_come_and_go() {
    let node = Node::new();
    let mut first = node.start(&[]);
    let mut added = node.http;
    added.set_port(8081);
    let second = node.start(&["--http", &format!("{},{added}", node.http6)]);
    first.wait_for("handed over");
    for address in [node.http6, added] {
        assert_eq!(Wire::connect(address).exchange(GET).text(), "hello");
    }
    // Nobody else wants that one: the old process serves it for as long as it lives.
    assert_eq!(Wire::connect(node.http).exchange(GET).text(), "hello");
    first.signal(Signal::TERM);
    assert_eq!(first.exit().code(), Some(0));
    second.wait_for("the process before this one has ended");
    assert!(std::net::TcpStream::connect(node.http).is_err());
    assert_eq!(Wire::connect(node.http6).exchange(GET).text(), "hello");
}

#[test]
fn health_is_the_new_processs_and_the_node_stays_ready() {
    let node = Node::new();
    let first = node.start(&[]);
    assert_eq!((node.admin("/readyz"), node.admin("/nodez")), (200, 200));
    let mut second = node.start_without_table(&[]);
    eventually("the new process answers", || (node.admin("/readyz") == 503).then_some(()));
    assert_eq!((node.admin("/healthz"), node.admin("/nodez")), (200, 200));
    node.assert_serves();
    assert!(first.logged("handed over").is_none());
    second.kill();
    eventually("the old process answers again", || (node.admin("/readyz") == 200).then_some(()));
}

#[test]
fn each_container_knows_whether_its_own_process_serves() {
    if !geteuid().is_root() {
        eprintln!("only root can make PID namespaces");
        return;
    }
    let node = Node::new();
    let first = node.launch_contained(&[]);
    first.process.wait_for("serving");
    assert_eq!(first.ready(), Some(0));
    // In another namespace: that the first one is ready says nothing of the second.
    assert_eq!(node.ready_elsewhere(), Some(1));
    // The kernel doesn't number a process of another namespace: their users are what the two know of each other.
    let second = node.launch_contained(&[]);
    second.process.wait_for("taken over");
    eventually("the new one serves", || (second.ready() == Some(0)).then_some(()));
    assert_eq!((first.ready(), node.admin("/nodez")), (Some(1), 200));
    node.assert_serves();
}

#[test]
fn under_systemd_another_version_is_another_unit_that_takes_over() {
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/systemd/nodegate@.service")).unwrap();
    let lines = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    let environment: Vec<(String, String)> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(environment.len(), 2);
    let node = Node::new();
    let mut first = node.start_in(&environment);
    let load = Load::start(&node);
    let mut second = node.start_in(&environment);
    second.wait_for("taken over");
    first.wait_for("drained");
    load.wait_for_more(300);
    load.stop();
    second.signal(Signal::TERM);
    assert_eq!([first.exit().code(), second.exit().code()], [Some(0); 2]);
}
