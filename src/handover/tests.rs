//! The conversation between two sides of one process, and what each makes of nonsense.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    channel::{Channel, lend},
    message::Message,
    *,
};
use crate::config::limits;

fn name() -> Name {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Name::new(&format!("unit-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn listener() -> (Passed, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (Passed { kind: Kind::Http, socket: socket.into() }, address)
}

#[tokio::test]
async fn more_sockets_than_fit_into_one_message_arrive_in_order() {
    let name = name();
    let mut rendezvous = Rendezvous::bind(name.clone()).unwrap();
    let (first, address) = listener();
    let (second, other) = listener();
    let count = 2 * limits::HANDOVER_BATCH + 1;
    let mut passed: Vec<Passed> = (1..count).map(|_| Passed { kind: Kind::Admin, socket: first.socket.try_clone().unwrap() }).collect();
    passed.push(second);
    let fresh = (0..count).map(|_| first.socket.try_clone().unwrap()).collect();
    let old = async {
        let successor = rendezvous.next().await;
        assert_eq!(successor.version(), env!("CARGO_PKG_VERSION"));
        assert_eq!(successor.offer(passed, true, false).await.unwrap(), [address]);
        let (addresses, fresh) = successor.serving().await.unwrap();
        assert_eq!((addresses.as_slice(), fresh.len()), ([other].as_slice(), count));
        successor.yielded().await.unwrap();
        successor.ended().await;
    };
    let new = async {
        let Asked::Offered(predecessor, sockets) = ask(&name).await.unwrap() else { panic!("no offer") };
        assert!(predecessor.is_ready());
        let places: Vec<_> =
            sockets.into_iter().map(|passed| (passed.kind, TcpListener::from(passed.socket).local_addr().unwrap())).collect();
        assert_eq!(places.len(), count);
        assert!(places[..count - 1].iter().all(|place| *place == (Kind::Admin, address)));
        assert_eq!(places[count - 1], (Kind::Http, other));
        predecessor.adopted(vec![address]).await.unwrap();
        predecessor.serving(vec![other], fresh).await.unwrap();
    };
    tokio::join!(old, new);
}

#[tokio::test]
async fn nobody_there_is_no_error() {
    assert!(matches!(ask(&name()).await, Ok(Asked::Alone)));
}

#[test]
fn only_our_own_user_is_admitted() {
    let name = Name::of_user(1000, "x");
    assert!(name.admits(1000));
    for uid in [0, 999, 1001, 65534] {
        assert!(!name.admits(uid), "{uid}");
    }
    assert_eq!(name.to_string(), "@nodegate/handover/1000/x");
    assert_ne!(Name::of_user(1001, "x"), name);
}

#[tokio::test]
async fn a_busy_process_is_asked_again() {
    let name = name();
    let mut rendezvous = Rendezvous::bind(name.clone()).unwrap();
    let old = async {
        rendezvous.next().await.busy("not yet").await;
        rendezvous.next().await.offer(Vec::new(), false, true).await.unwrap()
    };
    let new = async {
        let Asked::Offered(predecessor, sockets) = ask(&name).await.unwrap() else { panic!("no offer") };
        assert!(sockets.is_empty() && !predecessor.is_ready());
        predecessor.adopted(Vec::new()).await.unwrap();
    };
    assert_eq!(tokio::join!(old, new).0, []);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_says_nothing_is_given_up() {
    let name = name();
    let _silent = Rendezvous::bind(name.clone()).unwrap();
    assert!(matches!(ask(&name).await, Ok(Asked::Silent { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stays_busy_is_an_error() {
    let name = name();
    let mut rendezvous = Rendezvous::bind(name.clone()).unwrap();
    let error = tokio::select! {
        never = rendezvous.refuse("starting") => match never {},
        asked = ask(&name) => asked.unwrap_err(),
    };
    assert!(error.to_string().contains("starting"), "{error}");
}

#[tokio::test]
async fn a_message_that_is_too_long_or_makes_no_sense_is_an_error() {
    let long = u32::try_from(limits::HANDOVER_MESSAGE_BYTES + 1).unwrap().to_be_bytes().to_vec();
    let text = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    for bytes in [long, text(""), text("nonsense"), text(r#"{"unheard_of":{}}"#), text(r#"{"offer":{"version":"1"}}"#), vec![0, 0]] {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(&bytes).await.unwrap();
        drop(far);
        assert!(Channel::new(near).receive(limits::HANDOVER_STEP_TIMEOUT).await.is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn fields_of_a_later_version_are_skipped() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let text = br#"{"hello":{"protocol":1,"version":"2.0.0","mood":"fine"}}"#;
    far.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).await.unwrap();
    far.write_all(text).await.unwrap();
    let (message, sockets) = Channel::new(near).receive(limits::HANDOVER_STEP_TIMEOUT).await.unwrap();
    assert_eq!(message, Message::Hello { protocol: 1, version: "2.0.0".into() });
    assert!(sockets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_never_read_from_holds_nobody() {
    let (near, _far) = UnixStream::pair().unwrap();
    let near = Channel::new(near);
    let message = Message::Busy { why: "x".repeat(limits::HANDOVER_MESSAGE_BYTES / 2) };
    let (passed, _) = listener();
    let error = loop {
        if let Err(error) = near.send(&message, &lend(&[passed.socket.as_fd()])).await {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn descriptors_beyond_a_batch_are_refused() {
    let (near, far) = UnixStream::pair().unwrap();
    let (near, far) = (Channel::new(near), Channel::new(far));
    let (passed, _) = listener();
    let many: Vec<_> = (0..2 * limits::HANDOVER_BATCH).map(|_| passed.socket.as_fd()).collect();
    assert!(near.send(&Message::Yielded, &many).await.is_err());
    near.send(&Message::Yielded, &many[..limits::HANDOVER_BATCH]).await.unwrap();
    assert_eq!(far.receive(limits::HANDOVER_STEP_TIMEOUT).await.unwrap().1.len(), limits::HANDOVER_BATCH);
}

#[tokio::test]
async fn a_later_protocol_is_refused_with_a_reason() {
    let name = name();
    let mut rendezvous = Rendezvous::bind(name.clone()).unwrap();
    let mut stream = UnixStream::connect(&name.path).await.unwrap();
    let hello = Message::Hello { protocol: message::PROTOCOL + 1, version: "9".into() }.to_bytes().unwrap();
    stream.write_all(&u32::try_from(hello.len()).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    tokio::select! {
        _ = rendezvous.next() => panic!("no successor"),
        read = stream.read_to_end(&mut answer) => drop(read.unwrap()),
    }
    assert!(String::from_utf8_lossy(&answer).contains("refused"));
}
