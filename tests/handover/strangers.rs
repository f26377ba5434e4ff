//! Who isn't trusted, and who makes no sense.

use std::{
    io::{Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use rustix::process::geteuid;

use crate::{
    rig::Node,
    support::{PATIENCE, eventually},
};

const NOBODY: u32 = 65534;

fn rendezvous(uid: u32, node: &Node) -> SocketAddr {
    SocketAddr::from_abstract_name(format!("nodegate/handover/{uid}/{}", node.name)).unwrap()
}

#[test]
fn another_users_process_at_the_rendezvous_is_ignored() {
    if !geteuid().is_root() {
        eprintln!("only root can start a process of another user: the check itself has a test of its own beside it");
        return;
    }
    let node = Node::new();
    let squatter = UnixListener::bind_addr(&rendezvous(NOBODY, &node)).unwrap();
    let process = node.launch_as(NOBODY, &[]);
    process.wait_for("serving");
    let line = process.wait_for("of another user is at our rendezvous");
    assert_eq!((line["level"].as_str(), line["uid"].as_u64()), (Some("WARN"), Some(0)));
    node.assert_serves();
    // Once, and no word more about not having the name.
    assert_eq!((process.times("rendezvous"), process.times("can't take")), (1, 0));
    // And when it is gone, the next one of our user finds us.
    drop(squatter);
    eventually("the name is taken", || UnixStream::connect_addr(&rendezvous(NOBODY, &node)).ok());
    node.launch_as(NOBODY, &[]).wait_for("taken over");
}

#[test]
fn another_user_gets_no_sockets() {
    if !geteuid().is_root() {
        return;
    }
    let node = Node::new();
    let process = node.launch_as(NOBODY, &[]);
    process.wait_for("serving");
    // Root is another user, too.
    for _ in 0..3 {
        let mut stream = UnixStream::connect_addr(&rendezvous(NOBODY, &node)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&framed(r#"{"hello":{"protocol":1,"version":"x"}}"#));
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    process.wait_for("a process of another user asks");
    assert_eq!(process.times("a process of another user asks"), 1);
}

#[test]
fn garbage_at_the_rendezvous_disturbs_nobody() {
    let node = Node::new();
    let first = node.start(&[]);
    let ours = rendezvous(geteuid().as_raw(), &node);
    let connect = || {
        let stream = UnixStream::connect_addr(&ours).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // More than are listened to at a time say nothing at all; some say what makes no sense.
    let mut silent: Vec<UnixStream> = (0..7).map(|_| connect()).collect();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        u32::MAX.to_be_bytes().to_vec(),
        framed("{}"),
        framed(r#""yielded""#),
        framed(r#"{"serving":{"addresses":["127.0.0.1:1"]}}"#),
        framed("\u{0}"),
    ] {
        let mut stream = connect();
        stream.write_all(&bytes).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "{bytes:?} got an answer");
    }
    // A hello of a later version is told why not.
    let mut later = connect();
    later.write_all(&framed(r#"{"hello":{"protocol":2,"version":"9.9.9"}}"#)).unwrap();
    let mut answer = String::new();
    later.read_to_string(&mut answer).ok();
    assert!(answer.contains("refused") && answer.contains("version 1"), "{answer:?}");
    // One that vanishes in the middle.
    let mut gone = connect();
    gone.write_all(&framed(r#"{"hello":{"protocol":1,"version":"x"}}"#)).unwrap();
    gone.read_exact(&mut [0; 4]).unwrap();
    drop(gone);
    first.wait_for("didn't come to serve");
    node.assert_serves();
    assert_eq!(node.admin("/readyz"), 200);
    let second = node.start(&[]);
    second.wait_for("taken over");
    silent.clear();
}

fn framed(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}
