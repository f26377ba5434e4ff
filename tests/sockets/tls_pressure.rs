//! Many certificates that change, and many connections that never get anywhere: nobody else notices.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::support::{Backend, Nodegate, TlsClient, frames::PREFACE, issue, manifest, secret, within};

const SECRETS: usize = 1000;
/// What a debug build's memory may differ by after all of them have been replaced: the allocator keeps some of what was freed.
const MEMORY: u64 = 16 << 20;

fn host(number: usize) -> String {
    format!("h{number}.example")
}

#[test]
fn a_thousand_secrets_are_replaced_without_a_failed_handshake() {
    let backend = Backend::start().serve("ok");
    let mut yaml = String::new();
    for number in 0..SECRETS {
        let tls = format!("ingressClassName: nodegate\n  tls: [{{ secretName: c{number}, hosts: [{}] }}]", host(number));
        let rules = manifest(&[(&host(number), "/", backend)])
            .replace("ingress-0", &format!("i{number}"))
            .replace("ingressClassName: nodegate", &tls);
        // They share a Service.
        let ingress = rules.split_once("---\napiVersion: networking").unwrap().1;
        if number == 0 {
            yaml.push_str(&manifest(&[("none.example", "/", backend)]));
        }
        write!(yaml, "---\napiVersion: networking{ingress}").unwrap();
    }
    let nodegate = Nodegate::serve(&yaml, &["--https", "127.0.0.1:0"]);
    let address = nodegate.at("https");
    let directory = nodegate.manifests().parent().unwrap().to_owned();
    let put = |number: usize| {
        let issued = issue(&PKCS_ECDSA_P256_SHA256, &[&host(number)]);
        // Whole, or not at all.
        let (new, file) = (directory.join(".new"), directory.join(format!("secret-{number}.yaml")));
        fs::write(&new, secret("tests", &format!("c{number}"), &issued)).unwrap();
        fs::rename(new, file).unwrap();
        issued.der
    };
    let wait_for = |number: usize, expected: &[u8]| {
        within(Duration::from_mins(1), "the new certificate is served", || {
            let served = TlsClient::new().connect(address, Some(&host(number))).certificate;
            (served.as_ref() == expected).then_some(())
        });
    };
    let first: Vec<_> = (0..SECRETS).map(put).collect();
    wait_for(SECRETS - 1, first.last().unwrap());
    let before = nodegate.memory();

    let (over, shaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let (over, shaken) = (Arc::clone(&over), Arc::clone(&shaken));
            thread::spawn(move || {
                let mut number = client;
                while !over.load(Ordering::Relaxed) {
                    number = (number + 7) % SECRETS;
                    let mut secured = TlsClient::new().connect(address, Some(&host(number)));
                    let answer = secured.wire.exchange(format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(number)));
                    assert_eq!(answer.text(), "ok");
                    shaken.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let news: Vec<_> = (0..SECRETS).map(put).collect();
    for number in (0..SECRETS).step_by(97).chain([SECRETS - 1]) {
        wait_for(number, &news[number]);
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no handshake fails");
    }
    assert!(shaken.load(Ordering::Relaxed) > 0);
    let grown = nodegate.memory().saturating_sub(before);
    assert!(grown < MEMORY, "{grown} bytes more");
}

/// Connections that have said this, and say no more.
fn held(address: SocketAddr, words: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(words).unwrap();
        stream
    };
    (0..500).map(connect).collect()
}

#[test]
fn connections_that_get_nowhere_keep_nobody_out_and_are_gone_by_their_deadline() {
    let backend = Backend::start().serve("ok");
    let arguments = ["--https", "127.0.0.1:0", "--h2c", "127.0.0.1:0", "--tls-handshake-timeout", "5s", "--header-read-timeout", "5s"];
    let nodegate = Nodegate::serve(&manifest(&[("", "/", backend)]), &arguments);
    let (https, h2c) = (nodegate.at("https"), nodegate.at("h2c"));
    // The beginning of a real one: a record of a handshake with 512 bytes, of which some have come.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh";
    let stuck = [held(https, b""), held(https, hello), held(h2c, &PREFACE[..20])];
    within(Duration::from_mins(1), "all of them are there", || (nodegate.metric("nodegate_connections") >= 1500.0).then_some(()));
    let mut kept = nodegate.connect();
    for _ in 0..50 {
        assert_eq!(kept.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "ok");
        let mut secured = TlsClient::new().connect(https, Some("a.example"));
        assert_eq!(secured.wire.exchange("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").text(), "ok");
    }
    within(Duration::from_mins(1), "they are gone", || (nodegate.metric("nodegate_connections") < 10.0).then_some(()));
    drop(stuck);
}
