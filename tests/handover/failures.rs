//! What goes wrong: whoever still can serves on.

use rustix::process::Signal;

use crate::{
    load::Load,
    rig::Node,
    support::{GET, Wire, eventually},
};

#[test]
fn a_new_process_killed_before_its_first_table_leaves_no_trace() {
    let node = Node::new();
    let first = node.start(&[]);
    let load = Load::start(&node);
    for time in 1..=3 {
        let mut second = node.start_without_table(&["--workers", "2"]);
        second.wait_for("taking over from");
        eventually("the new process answers health", || (node.admin("/readyz") == 503).then_some(()));
        load.wait_for_more(100);
        second.kill();
        eventually("the old process says so", || (first.times("didn't come to serve") == time).then_some(()));
        assert_eq!(node.admin("/readyz"), 200);
    }
    load.wait_for_more(100);
    load.stop();
    assert!(node.page("/metrics").contains("nodegate_handovers_total{outcome=\"failed\"} 3"));
}

#[test]
fn a_new_process_killed_while_it_serves_is_replaced_by_the_old_one() {
    let node = Node::new();
    let first = node.start(&[]);
    let mut second = node.start(&[]);
    first.wait_for("handed over");
    node.assert_serves();
    second.kill();
    // At once: connections wait in queues that never close.
    node.assert_serves();
    first.wait_for("accepting again");
    assert_eq!(node.admin("/readyz"), 200);
    let load = Load::start(&node);
    let connections = load.connections();
    let third = node.start(&["--workers", "3"]);
    third.wait_for("taken over");
    eventually("the old process hands over again", || (first.times("handed over") == 2).then_some(()));
    load.wait_for_reconnects(connections);
    load.stop();
}

#[test]
fn clients_that_wait_in_a_dead_processs_queues_are_answered() {
    let node = Node::new();
    let first = node.start(&[]);
    // Three more sockets an address than the old process has, and nobody who takes anything out of their queues.
    let mut second = node.start(&["--workers", "4"]);
    first.wait_for("handed over");
    second.freeze();
    // The kernel picks a socket by a hash: that all of them wait at the old process's has a chance of 1 in 10^12 for each address.
    let mut waiting: Vec<_> =
        [node.http, node.http6].into_iter().flat_map(|address| (0..20).map(move |_| Wire::connect(address))).collect();
    for client in &mut waiting {
        client.send(GET);
    }
    second.kill();
    for client in &mut waiting {
        assert_eq!(client.message().text(), "hello");
    }
    first.wait_for("accepting again");
}

#[test]
fn an_old_process_that_hangs_is_joined() {
    let node = Node::new();
    let mut first = node.start(&[]);
    first.freeze();
    let second = node.start(&[]);
    second.wait_for("binding beside it");
    second.wait_for("another process still has the address");
    first.kill();
    eventually("admin is answered once it is free", || {
        second.logged("listening").and_then(|_| std::net::TcpStream::connect(node.admin).ok())
    });
    assert_eq!(node.admin("/readyz"), 200);
    node.assert_serves();
    // And the rendezvous is taken then.
    let third = node.start(&[]);
    third.wait_for("taken over");
}

#[test]
fn an_old_process_that_ends_before_the_new_one_has_a_table_keeps_nobody_waiting() {
    let node = Node::new();
    let mut first = node.start(&[]);
    let second = node.start_without_table(&[]);
    eventually("the new process answers health", || (node.admin("/readyz") == 503).then_some(()));
    first.signal(Signal::TERM);
    assert_eq!(first.exit().code(), Some(0));
    assert_eq!(node.admin("/nodez"), 503);
    second.wait_for("answering 503 until there is one");
    second.wait_for("serving");
}

#[test]
fn a_third_process_waits_for_the_second() {
    let node = Node::new();
    let first = node.start(&[]);
    let mut second = node.start_without_table(&[]);
    second.wait_for("taking over from");
    let third = node.launch(&["--log-level", "debug"]);
    third.wait_for("asking again");
    assert!(third.logged("taking over from").is_none());
    second.kill();
    third.wait_for("taken over");
    // Another process's log, read by another thread: it may come later.
    first.wait_for("handed over");
    assert_eq!(first.times("handed over"), 1);
    node.assert_serves();
}

#[test]
fn while_a_process_drains_that_was_relieved_the_next_one_finds_its_addresses_free() {
    let node = Node::new();
    let exits = ["--after-handover", "exit"];
    let mut first = node.start(&exits);
    // Its drain has to wait for this one.
    let mut upload = Wire::connect(node.http);
    upload.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    let mut second = node.start(&exits);
    second.wait_for("taken over");
    first.wait_for("draining");
    second.kill();
    let _third = node.start(&exits);
    node.assert_serves();
    assert_eq!(node.admin("/readyz"), 200);
    assert!(first.is_running());
}

#[test]
fn a_process_that_was_relieved_and_is_told_to_end_finishes_what_it_has() {
    let node = Node::new();
    let mut first = node.start(&["--after-handover", "exit"]);
    let mut upload = Wire::connect(node.http);
    upload.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    let second = node.start(&[]);
    second.wait_for("taken over");
    first.wait_for("draining");
    first.signal(Signal::TERM);
    // That is some seconds later, if it still says anything.
    eventually("it goes on", || (first.times("still open") == 2).then_some(()));
    upload.send("half");
    assert_eq!(upload.message().text(), "hello");
    assert_eq!((first.exit().code(), first.times("second signal")), (Some(0), 0));
}
