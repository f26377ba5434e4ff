//! A process that stands by leaves alone whoever serves. What it serves itself is tested with what a cluster has left (`tests/kube/standby.rs`).

use std::{thread, time::Instant};

use nodegate::config::limits::{STANDBY_AFTER, STANDBY_LOOK};
use rustix::process::Signal;

use crate::rig::Node;

#[test]
fn who_stands_by_takes_nothing_from_who_serves() {
    let node = Node::new();
    let mut first = node.start(&[]);
    let mut standby = node.launch_standby("/nowhere");
    // A version comes, and takes over from the one that serves; nobody asks the one that stands by.
    let second = node.start(&[]);
    second.wait_for("taken over");
    first.kill();
    let until = Instant::now() + STANDBY_AFTER + 2 * STANDBY_LOOK;
    while Instant::now() < until {
        node.assert_serves();
        thread::sleep(STANDBY_LOOK / 4);
    }
    assert!(standby.is_running());
    assert_eq!((standby.times("nobody serves"), first.times("asks for the listening sockets"), second.times("asks for")), (0, 1, 0));
    standby.signal(Signal::TERM);
    assert!(standby.exit().success(), "a signal is no failure");
    node.assert_serves();
}

#[test]
fn with_nothing_to_serve_who_stands_by_says_so_and_listens_nowhere() {
    let node = Node::new();
    let mut standby = node.launch_standby("/nowhere");
    // At once, and not only when it is needed.
    standby.wait_for("standing by with nothing to serve");
    assert_eq!(standby.exit().code(), Some(2));
    let said = "nodegate: the copy of the cluster's objects in /nowhere isn't there: there is nothing to serve until";
    standby.wait_for_text(said);
    assert_eq!(standby.times("listening"), 0);
}
