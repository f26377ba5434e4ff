//! The pages: which path answers what.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{Question, Scope, State, process_namespace};
use crate::{
    metrics::{self, ClusterNumbers, Scrape},
    proxy::Open,
    table::Published,
};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

const INDEX: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Nodegate</title></head><body>
<h1>Nodegate</h1>
<ul>
<li><a href=\"/healthz\">/healthz</a>: the process answers</li>
<li><a href=\"/readyz\">/readyz</a>: it should get requests, or why not</li>
<li><a href=\"/nodez\">/nodez</a>: the node should get requests, which a process before this one may serve meanwhile, or why not</li>
<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>
<li><a href=\"/routes\">/routes</a>: the route table; <a href=\"/routes?format=json\">as JSON</a></li>
<li>/explain?url=http://host/path&amp;method=GET: which rule wins, which lost and why</li>
<li><a href=\"/config\">/config</a>: the settings in force</li>
<li><a href=\"/drain\">/drain</a>: whether it ends, and what is still open</li>
</ul>
</body></html>
";

/// One listener's pages.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) scope: Scope,
    /// Whether the `Host` may be any name, or only localhost or an address.
    pub(super) names_allowed: bool,
    pub(super) state: Arc<State>,
}

/// An answer: status, media type, text.
struct Page(StatusCode, &'static str, String);

impl Site {
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Page(status, media_type, text) = self.page(request).await;
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    async fn page<B>(&self, request: &Request<B>) -> Page {
        if !self.names_allowed && !request.headers().get_all(HOST).iter().all(is_local) {
            return Page(StatusCode::FORBIDDEN, TEXT, "this listener answers to localhost and addresses only\n".into());
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".into());
        }
        let query = Query(request.uri().query().unwrap_or_default());
        match (request.uri().path(), self.scope) {
            ("/healthz", _) => Page(StatusCode::OK, TEXT, "ok\n".into()),
            ("/readyz", _) => fine_unless(is_other(&query).or(self.state.not_ready())),
            ("/nodez", _) => fine_unless(self.state.node_not_ready()),
            ("/metrics", _) => Page(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics().await),
            ("/routes", Scope::Admin) => self.routes(&query),
            ("/explain", Scope::Admin) => self.explain(&query),
            ("/config", Scope::Admin) => Page(StatusCode::OK, JSON, format!("{:#}\n", self.state.settings)),
            ("/drain", Scope::Admin) => self.drain().await,
            ("/", Scope::Admin) => Page(StatusCode::OK, HTML, INDEX.into()),
            _ => Page(StatusCode::NOT_FOUND, TEXT, "no such page\n".into()),
        }
    }

    async fn metrics(&self) -> String {
        let (workers, missing_workers) = match self.state.proxy.get() {
            Some(proxy) => proxy.numbers().await,
            None => (Vec::new(), 0),
        };
        metrics::render(Scrape {
            workers,
            missing_workers,
            report: self.state.report.borrow().clone(),
            table: self.table(),
            events: *self.state.events.borrow(),
            ready: self.state.not_ready().is_none(),
            handovers: self.state.succession.counts.values(),
            log_lost: self.state.log_lost.lines(),
            cluster: self.state.cluster.as_ref().map(|cluster| ClusterNumbers {
                leads: cluster.role.leads(),
                status_writes: cluster.status.writes.load(Ordering::Relaxed),
                status_errors: cluster.status.errors.load(Ordering::Relaxed),
                status_contested: cluster.status.contested.load(Ordering::Relaxed),
                reports_written: cluster.reports.written.load(Ordering::Relaxed),
                report_errors: cluster.reports.errors.load(Ordering::Relaxed),
            }),
            started: self.state.started,
            now: SystemTime::now(),
        })
    }

    async fn drain(&self) -> Page {
        let Open { connections, idle, requests, tunnels, missing_workers } = match self.state.proxy.get() {
            Some(proxy) => proxy.open().await,
            None => Open::default(),
        };
        let open = json!({
            "draining": *self.state.draining.borrow(),
            "connections": connections,
            "idle_connections": idle,
            "requests": requests,
            "tunnels": tunnels,
            "missing_workers": missing_workers,
        });
        Page(StatusCode::OK, JSON, format!("{open:#}\n"))
    }

    fn routes(&self, query: &Query<'_>) -> Page {
        let table = self.table();
        match query.first("format").as_deref() {
            None | Some("text") => Page(StatusCode::OK, TEXT, table.snapshot.render()),
            Some("json") => Page(StatusCode::OK, JSON, table.snapshot.render_json()),
            Some(other) => Page(StatusCode::BAD_REQUEST, TEXT, format!("format is text or json, not {other}\n")),
        }
    }

    fn explain(&self, query: &Query<'_>) -> Page {
        let Some(url) = query.first("url") else {
            return Page(StatusCode::BAD_REQUEST, TEXT, "add ?url=http://host/path, and &method= if it isn't GET\n".into());
        };
        let method = query.first("method").unwrap_or_else(|| "GET".into());
        match Question::new(&url, &method, &query.all("header")) {
            Ok(question) => Page(StatusCode::OK, TEXT, question.answer(&self.table().snapshot)),
            Err(error) => Page(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
        }
    }

    fn table(&self) -> Arc<Published> {
        Arc::clone(self.state.table.clone().load())
    }
}

/// `?process=`, as `nodegate ready` asks it: only the processes of one container speak of the same one.
fn is_other(query: &Query<'_>) -> Option<&'static str> {
    let asked = query.first("process")?;
    if process_namespace().is_ok_and(|own| own == asked) { None } else { Some("another process answers here") }
}

fn fine_unless(why: Option<&str>) -> Page {
    match why {
        None => Page(StatusCode::OK, TEXT, "ok\n".into()),
        Some(why) => Page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
    }
}

/// A query string. `+` stays what it is, since the values are URLs and headers, not form fields.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn all(&self, key: &str) -> Vec<String> {
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned()).collect()
    }

    fn first(&self, key: &str) -> Option<String> {
        self.all(key).into_iter().next()
    }
}

/// `localhost`, a name below it, or an address; with or without a port.
fn is_local(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}
