//! What each page answers, to whom, and that a listener survives clients that don't behave.

use std::{
    io::{Read, Write},
    time::Duration,
};

use http::{Method, StatusCode};
use http_body_util::BodyExt;

use super::*;
use crate::route::Snapshot;

struct Rig {
    state: Arc<State>,
    report: watch::Sender<Report>,
    draining: watch::Sender<bool>,
    predecessor: watch::Sender<bool>,
    publisher: table::Publisher,
}

fn rig() -> Rig {
    let (publisher, table) = table::channel();
    let (report, report_receiver) = watch::channel(Report::default());
    let (draining, draining_receiver) = watch::channel(false);
    let (predecessor, predecessor_receiver) = watch::channel(false);
    let (_, writer) = access_log::start(access_log::Output::Off, 1).unwrap();
    let state = Arc::new(State {
        table,
        report: report_receiver,
        events: watch::channel(event::Tally::default()).1,
        proxy: OnceLock::new(),
        draining: draining_receiver,
        succession: Succession {
            answered_elsewhere: watch::channel(Vec::new()).1,
            predecessor_serves: predecessor_receiver,
            counts: Arc::default(),
        },
        log_lost: writer.lost(),
        cluster: None,
        settings: serde_json::json!({"workers": 2}),
        started: SystemTime::now(),
    });
    Rig { state, report, draining, predecessor, publisher }
}

async fn ask(rig: &Rig, scope: Scope, names_allowed: bool, request: Request<()>) -> (StatusCode, String, String) {
    let response = pages::Site { scope, names_allowed, state: Arc::clone(&rig.state) }.answer(&request).await;
    let (head, body) = response.into_parts();
    let media_type = head.headers["content-type"].to_str().unwrap().to_owned();
    (head.status, media_type, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

async fn get(rig: &Rig, target: &str) -> (StatusCode, String, String) {
    ask(rig, Scope::Admin, false, Request::get(target).header("host", "127.0.0.1:9080").body(()).unwrap()).await
}

#[tokio::test]
async fn a_node_is_ready_while_the_process_before_serves() {
    let rig = rig();
    for (before, ready, draining, expected) in [
        (false, false, false, (503, 503)),
        (true, false, false, (503, 200)),
        // The table alone isn't enough: there are no workers here.
        (true, true, false, (503, 200)),
        (false, true, false, (503, 503)),
        (true, true, true, (503, 503)),
    ] {
        rig.predecessor.send_replace(before);
        rig.report.send_modify(|report| report.ready = ready);
        rig.draining.send_replace(draining);
        let got = (get(&rig, "/readyz").await.0.as_u16(), get(&rig, "/nodez").await.0.as_u16());
        assert_eq!(got, expected, "before: {before}, table: {ready}, draining: {draining}");
    }
}

#[tokio::test]
async fn a_process_speaks_for_its_own_container_only() {
    let rig = rig();
    let own = process_namespace().unwrap();
    for (process, expected) in [(own.as_str(), "waiting for the first"), ("1", "another process"), ("", "another process")] {
        let (status, _, text) = get(&rig, &format!("/readyz?process={process}")).await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains(expected), "{process}: {text}");
    }
}

#[tokio::test]
async fn each_page_answers_in_its_type() {
    let rig = rig();
    for (target, status, media_type, part) in [
        ("/healthz", 200, "text/plain", "ok"),
        ("/readyz", 503, "text/plain", "waiting for the first complete configuration"),
        ("/metrics", 200, "application/openmetrics-text", "nodegate_ready 0"),
        ("/routes", 200, "text/plain", ""),
        ("/routes?format=text", 200, "text/plain", ""),
        ("/routes?format=json", 200, "application/json", ""),
        ("/routes?format=yaml", 400, "text/plain", "format is text or json, not yaml"),
        ("/explain", 400, "text/plain", "?url="),
        ("/explain?url=http://a.example/b", 200, "text/plain", "method     GET\n"),
        ("/explain?url=http%3A%2F%2Fa.example%2Fb%3Fx&method=POST", 200, "text/plain", "method     POST\n"),
        ("/explain?url=http://a/&header=Host:%20b.example", 200, "text/plain", "b.example"),
        ("/explain?url=ftp://a/", 400, "text/plain", "scheme"),
        ("/config", 200, "application/json", "\"workers\": 2"),
        ("/", 200, "text/html", "/explain"),
        ("/nothing", 404, "text/plain", "no such page"),
        ("/healthz/", 404, "text/plain", "no such page"),
    ] {
        let (got, kind, text) = get(&rig, target).await;
        assert_eq!(got.as_u16(), status, "{target}: {text}");
        assert!(kind.starts_with(media_type) && text.contains(part), "{target}: {kind}: {text}");
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let rig = rig();
    rig.report.send_modify(|report| report.ready = true);
    assert_eq!(rig.state.not_ready(), Some("starting the workers"));
    rig.draining.send_replace(true);
    let (status, _, text) = get(&rig, "/readyz").await;
    assert_eq!((status.as_u16(), text.as_str()), (503, "draining\n"));
    assert_eq!(get(&rig, "/healthz").await.0, StatusCode::OK, "a process that drains is alive");
}

#[tokio::test]
async fn pages_show_the_table_in_force() {
    let mut rig = rig();
    rig.publisher.publish(Snapshot::default());
    rig.report.send_modify(|report| report.generation = 1);
    assert!(get(&rig, "/metrics").await.2.contains("\nnodegate_snapshot_generation 1\n"));
    assert_eq!(get(&rig, "/routes").await.2, rig.publisher.current().snapshot.render());
}

#[tokio::test]
async fn metrics_listener_has_three_pages() {
    let rig = rig();
    for (target, status) in
        [("/metrics", 200), ("/healthz", 200), ("/readyz", 503), ("/routes", 404), ("/explain?url=a", 404), ("/config", 404), ("/", 404)]
    {
        let answer = ask(&rig, Scope::Metrics, true, Request::get(target).body(()).unwrap()).await;
        assert_eq!(answer.0.as_u16(), status, "{target}");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let rig = rig();
    for (method, status) in [(Method::GET, 200), (Method::HEAD, 200), (Method::POST, 405), (Method::DELETE, 405), (Method::OPTIONS, 405)] {
        let request = Request::builder().method(&method).uri("/healthz").body(()).unwrap();
        assert_eq!(ask(&rig, Scope::Admin, false, request).await.0.as_u16(), status, "{method}");
    }
}

#[tokio::test]
async fn loopback_listener_answers_to_no_foreign_name() {
    let rig = rig();
    for (host, on_loopback) in [
        ("127.0.0.1:9080", 200),
        ("127.0.0.1", 200),
        ("localhost:9080", 200),
        ("LocalHost", 200),
        ("nodegate.localhost", 200),
        ("[::1]:9080", 200),
        ("evil.example", 403),
        ("evil.example:9080", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[evil]", 403),
        ("", 403),
    ] {
        let request = || Request::get("/config").header("host", host).body(()).unwrap();
        assert_eq!(ask(&rig, Scope::Admin, false, request()).await.0.as_u16(), on_loopback, "{host}");
        assert_eq!(ask(&rig, Scope::Admin, true, request()).await.0.as_u16(), 200, "{host}");
    }
    let two = Request::get("/config").header("host", "localhost").header("host", "evil.example").body(()).unwrap();
    assert_eq!(ask(&rig, Scope::Admin, false, two).await.0.as_u16(), 403);
}

async fn listening(rig: &Rig) -> SocketAddr {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Scope::Admin).await.unwrap();
    let address = listener.address();
    tokio::spawn(listener.serve(Arc::clone(&rig.state)));
    address
}

#[tokio::test]
async fn client_and_listener_understand_each_other() {
    let rig = rig();
    let address = listening(&rig).await;
    for base in [format!("http://{address}"), format!("http://{address}/"), address.to_string()] {
        let text = client::get(&base, "/explain", &[("url", "http://a.example/ü&x?y=#z"), ("method", "PUT")]).await;
        assert!(text.as_ref().is_ok_and(|text| text.starts_with("method     PUT\n")), "{text:?}");
    }
    let refused = client::get(&address.to_string(), "/explain", &[("url", "ftp://a/")]).await.unwrap_err().to_string();
    assert!(refused.contains("scheme") && refused.contains("400"), "{refused}");
    for bad in ["https://127.0.0.1:1", "http://", "://", "a b"] {
        assert!(matches!(client::get(bad, "/", &[]).await, Err(client::ClientError::Url(_))), "{bad}");
    }
    let nobody = client::get("http://127.0.0.1:1", "/", &[]).await.unwrap_err().to_string();
    assert!(nobody.starts_with("can't ask http://127.0.0.1:1: "), "{nobody}");
}

/// Sends raw bytes and reads until the end.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let bytes = bytes.to_vec();
    let exchange = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

#[tokio::test]
async fn connection_ends_after_one_answer() {
    let address = listening(&rig()).await;
    let text = raw(address, b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.to_lowercase().contains("connection: close"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "HEAD has no body: {text}");
    assert!(raw(address, b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let large = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(limits::ADMIN_HEAD_BYTES));
    assert!(raw(address, large.as_bytes()).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn silent_clients_are_let_go_and_make_room() {
    let address = listening(&rig()).await;
    // As many as there are places; none of them ever sends anything.
    let silent: Vec<_> = (0..limits::ADMIN_CONNECTIONS).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let start = std::time::Instant::now();
    let text = raw(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(start.elapsed() >= limits::ADMIN_REQUEST_TIMEOUT / 2, "the places were all taken");
    drop(silent);
}
