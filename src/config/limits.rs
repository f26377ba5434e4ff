//! Every limit and timeout in one place: named, with its unit, what happens at the limit, and why this number.

mod adjustable;
mod cluster;
mod convergence;
mod dial;
mod dns;
mod event;
mod handover;
mod http2;
mod source;
mod state;

use std::time::Duration;

pub use adjustable::Limits;
pub use cluster::*;
pub use convergence::*;
pub use dial::*;
pub use dns::*;
pub use event::*;
pub use handover::*;
pub use http2::*;
pub use source::*;
pub use state::*;

/// Bytes of a request's head (request line and headers). Beyond: 431 `header_limit`. Four times nginx's usual 8 KiB, since cookies grow; far
/// below what a flood of slow clients could use to fill memory.
pub const REQUEST_HEAD_BYTES: usize = 32 * 1024;

/// Header fields in a request's head. Beyond: 431 `header_limit`. Envoy's and HAProxy's number.
pub const REQUEST_HEADER_COUNT: usize = 100;

/// Entries of `X-Forwarded-For` that are read, from the right, in search of the client. Beyond: the last one read is taken. No real chain of
/// proxies is that long; a flood of commas costs nothing.
pub const FORWARDED_FOR_ENTRIES: usize = 32;

/// Bytes of an `X-Request-Id` that is kept from a trusted peer. Longer: a new one is made. A UUID has 36, a trace id 55.
pub const REQUEST_ID_BYTES: usize = 128;

/// From the first byte of a request's head to its last. Beyond: 408 `client_timeout`, and the connection is closed. Half of what slow-loris
/// tools count on, and ample for a phone on a bad line.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// From accept to the end of the TLS handshake. Beyond: the connection is closed. HAProxy's customary number; a handshake takes two round trips.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a PROXY protocol header. Beyond: the connection is closed. Addresses and a few extensions take some hundred; the protocol's own limit is 64 KiB.
pub const PROXY_HEADER_BYTES: usize = 4096;

/// Handshakes that a worker computes a part of between two looks at its sockets: a signature takes as long as dozens of requests.
pub const HANDSHAKES_AT_ONCE: usize = 1;

/// Handshakes that wait for a worker to compute them, and are computed in the order in which they have come. Beyond: the newest first, since in a flood each
/// of the oldest would be computed for a client that has left. These wait for a tenth of a second or so: a core signs a thousand times a second with an
/// RSA key of 2048 bits, and more often with others.
pub const HANDSHAKES_IN_ORDER: usize = 128;

/// Handshakes that wait for a worker to compute them. Beyond: the one that has waited for longest is closed. That is what a core computes in
/// [`TLS_HANDSHAKE_TIMEOUT`]: all who come back at the same time after an outage are served, and whoever waits behind so many wouldn't be.
pub const HANDSHAKES_WAITING: usize = 8192;

/// A connection without a request: before its first byte, or between two requests. Beyond: closed. nginx's number; Cloudflare
/// keeps origin connections for minutes, so `--keep-alive-timeout` changes it.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// A connection without a request for so long gives its HTTP server and buffers back until it stirs: some 20 KB, and 2 us to make them anew. Longer than
/// a client that is busy is ever silent.
pub const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Bytes of a request's chunk extensions and trailers together, which carry no data. Beyond: 400. The HTTP server stops at twice as many of either.
pub const CHUNK_OVERHEAD_BYTES: usize = 8 * 1024;

/// Between two reads of a request's body. Beyond: 408 `client_timeout`, and the connection is closed. nginx's number.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes a second, on average over the whole body, that a request's body must reach once [`BODY_RATE_GRACE`] is over. Below: as above. Any
/// working line is faster; a client that holds a backend's worker with a trickle is not.
pub const BODY_MIN_RATE: u64 = 100;

/// How long a request's body may be slower than [`BODY_MIN_RATE`].
pub const BODY_RATE_GRACE: Duration = Duration::from_secs(60);

/// A client that takes nothing of what we have for it. Beyond: its connection is closed, which frees the upstream connection. nginx's number.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Requests on one client connection. At the limit: the answer carries `Connection: close`. Bounds what one connection can pin; nginx has 1,000,
/// but a CDN in front sends thousands a second over few connections.
pub const REQUESTS_PER_CONNECTION: u64 = 100_000;

/// Client connections of one worker. At the limit: idle ones are closed to make room, then accepting stops until one ends; the kernel's queue
/// holds the rest. At some 45 KB each, with a small request under way, that to the backend included, this is 740 MB; idle ones take a tenth, large
/// bodies several times as much. The file-descriptor limit may lower it.
pub const CONNECTIONS_PER_WORKER: usize = 16_384;

/// Idle client connections that a worker at its limit chooses at once, to close them one by one as others come in: choosing takes a look at all.
pub const EVICTION_BATCH: usize = 256;

/// A connection that has had no request yet, once it is to go: in a drain, or at the limit of connections. Beyond: closed. Its request is on its way, or
/// it is one of those that browsers open in advance. At that limit, no connection is told to go that has been idle for less.
pub const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// File descriptors left for everything but proxied connections: log, admin, watches, epoll, listeners.
pub const RESERVED_FILES: usize = 128;

/// The listening queue of each socket. The kernel's own ceiling (`net.core.somaxconn`, 4096 by default) still holds.
pub const LISTEN_BACKLOG: i32 = 4096;

/// How long accepting pauses after an error such as EMFILE. Long enough not to spin, short against a client's patience.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// From the last byte we sent a backend to the first of its answer. Beyond: 504 `upstream_timeout`. nginx's number.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two reads of a response's body, while the client is ready to take more. Beyond: the client's stream ends in an error. Five minutes,
/// Envoy's number: server-sent events with a rare heartbeat live, a dead peer doesn't stay for ever.
pub const RESPONSE_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// A tunnel (WebSocket), or a call of gRPC to a backend that speaks HTTP/2, without a byte in either direction. Beyond: closed. HAProxy's customary number;
/// WebSocket libraries ping every minute, and a call that watches something may have nothing to say.
pub const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Bytes of a response's head. Beyond: 502 `upstream_invalid`.
pub const RESPONSE_HEAD_BYTES: usize = 64 * 1024;

/// Header fields in a response's head. Beyond: 502 `upstream_invalid`. The HTTP client's own number.
pub const RESPONSE_HEADER_COUNT: usize = 100;

/// The HTTP server's buffer for each direction of a client connection, at most; more where a head may be larger. It grows with what a connection
/// carries.
pub const SERVER_BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of a client's next message that are kept while the current one is answered. Beyond: they stay in the kernel. A few pipelined heads.
pub const STASH_BYTES: usize = 16 * 1024;

/// Room for a read of what the HTTP server hasn't asked for yet: a usual head.
pub const STASH_READ_BYTES: usize = 4096;

/// Up to here, the pieces of a response are joined before they are written: copying a small one costs less than writing it in pieces.
pub const JOINED_WRITE_BYTES: usize = 2048;

/// The HTTP client's buffer for each direction of a backend connection, at most; more where a response's head may be larger.
pub const CLIENT_BUFFER_BYTES: usize = 64 * 1024;

/// The buffer for each direction of a tunnel.
pub const TUNNEL_BUFFER_BYTES: usize = 16 * 1024;

/// Before the end of a drain, by when WebSockets and server-sent events have been ended: what the two ends of a WebSocket have to answer our farewell, which is
/// the last that they get. A few round trips.
pub const STREAM_FAREWELL: Duration = Duration::from_secs(2);

/// Idle connections that one worker keeps to one backend address. Beyond: closed when given back. They cost some 10 KB each. Only as many
/// as were needed at once are ever there; where they are used in turn, for the sake of several pods, a steady load may keep them until [`POOL_MAX_AGE`].
/// With 256, a load of 1,000 clients dialled for every tenth request.
pub const POOL_IDLE_PER_BACKEND: usize = 1024;

/// Idle connections that one worker keeps in all. Beyond: one of another backend is closed for each that is given back.
pub const POOL_IDLE_PER_WORKER: usize = 4096;

/// How long a connection stays idle in the pool. Shorter than the keep-alive of usual backends (Node 5 s is the exception that the stale retry
/// is for; Go 90-180 s, gunicorn behind its own, Tomcat 60 s).
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Age after which an upstream connection isn't reused, less up to a fifth of jitter: so that kube-proxy gets to choose again after a scale-up.
pub const POOL_MAX_AGE: Duration = Duration::from_secs(300);

/// Connections for each ready endpoint that one worker opens to a ClusterIP before it leans on reuse alone: kube-proxy picks a pod at random for
/// each connection, so too few would leave pods without traffic. With 8, one of ten pods is left out once in 500 times; with 2, one always was.
pub const SPREAD_PER_ENDPOINT: usize = 8;

/// Most connections that spreading opens for one backend, however many endpoints it has. Some 10 KB each.
pub const SPREAD_MAX: usize = 96;

/// A backend whose next connection has been idle for so long has enough of them. Shorter than the shortest keep-alive of usual backends (Node, uvicorn:
/// 5 s), so that spreading a trickle doesn't make it meet connections that are just being closed.
pub const SPREAD_IDLE: Duration = Duration::from_secs(4);

/// Requests after which a connection to a ClusterIP with several pods may be replaced by a new one, so that kube-proxy chooses again: chance
/// favours some pods, and this evens it out over time. A dial costs as much as two or three requests; under load, [`REDRAWS_PER_SECOND`] is what bounds it.
pub const REDRAW_REQUESTS: u32 = 8;

/// How many connections all workers together replace in a second that way. Each leaves a port in TIME_WAIT for a minute: 6,000 of the 28,000 that
/// there are for one destination; and some 0.5 % of a core.
pub const REDRAWS_PER_SECOND: u32 = 100;

/// Replacements that may be made up for after a pause, in time.
pub const REDRAW_BURST: Duration = Duration::from_secs(1);

/// How long after a pod has come the connections are all replaced once: kube-proxy hears of it when we do, and has its rules a second or more later.
pub const SPREAD_SETTLE: Duration = Duration::from_secs(5);

/// Attempts for one request, the first included, after which one that fails has no successor. Dials that get no answer at all, or are refused by one of several
/// pods, are bounded by [`DIALS_AT_ONCE`].
pub const MAX_ATTEMPTS: u32 = 3;

/// Before a request goes to another pod because one that had just accepted its connection closed it without an answer. Longer than the kernel takes to close
/// what a killed process had open, its memory, which goes first, included.
pub const REPLAY_PAUSE: Duration = Duration::from_millis(200);

/// Retries allowed as a share of requests: one retry for each so many requests, so that retries can't multiply an outage.
pub const RETRY_BUDGET_REQUESTS: u32 = 5;

/// Retries that may be saved up (and are there at the start): small services retry too.
pub const RETRY_BUDGET_MAX: u32 = 100;

/// How often a worker looks for connections whose deadline has passed, which is the precision of every timeout above, and hands its part of the access
/// log to the writer.
pub const DEADLINE_TICK: Duration = Duration::from_millis(250);

/// After a refusal: how long, and for how many bytes, we go on reading so that the client gets to see the answer instead of a reset.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// See [`LINGER_TIMEOUT`].
pub const LINGER_BYTES: usize = 256 * 1024;

/// On SIGTERM: how long requests and tunnels may take to finish (`--drain-timeout`). Below the 30 s that a kubelet grants by default.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Between two lines in the log that say what a drain still waits for.
pub const DRAIN_REPORT: Duration = Duration::from_secs(5);

/// Added to that at exit, for workers to close what the deadline cut off; then the process ends without them.
pub const DRAIN_MARGIN: Duration = Duration::from_secs(1);

/// The same signal again within this time is the same wish: `timeout` and terminals signal the whole process group, and a script in it often
/// passes the signal on. Nobody's second thought comes that fast.
pub const SIGNAL_REPEAT: Duration = Duration::from_millis(100);

/// At the start, how long connections wait in the listening queue for the first route table; then they are answered without one. A restarted
/// proxy thereby has no moment of wrong 404s, and a proxy whose API server is down doesn't leave its clients hanging.
pub const FIRST_TABLE_WAIT: Duration = Duration::from_secs(5);

/// Bytes of access log that a worker gathers before it hands them to the writer: some 70 lines, in one write. Half of what a pipe takes at once by default.
pub const LOG_BATCH_BYTES: usize = 32 * 1024;

/// Batches waiting for the writer, for each worker. Beyond: dropped and counted. 4 MiB; were all lines as long as heads can make
/// them, some 30 MiB.
pub const LOG_QUEUE: usize = 128;

/// At exit: how long the writer may take for the lines it still holds. A pipe that nobody reads must not keep the process alive.
pub const LOG_FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Ingresses whose requests a worker counts under their own name. Beyond: counted together, as `other`. Bounds a worker's memory (some
/// 350 bytes each) and the size of a scrape.
pub const METRIC_INGRESSES: usize = 20_000;

/// Scrapes after which the numbers of an Ingress without a request are forgotten: some four hours of scrapes 15 s apart. Deleted Ingresses go this way.
pub const METRIC_IDLE_SCRAPES: u32 = 1000;

/// Size of a compiled path expression, in bytes. Beyond: a diagnostic on that path, which is not in force: nobody can tell what it would match.
pub const PATH_REGEX_BYTES: usize = 256 * 1024;

/// How long the admin listener waits for a worker's numbers. Beyond: the scrape goes on without them, and says so.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(1);

/// From accept to the end of the request, on the admin listeners.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to each admin listener. Beyond: new ones wait.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Bytes of a request's head on the admin listeners. Beyond: 431. `/explain` carries a URL and headers.
pub const ADMIN_HEAD_BYTES: usize = 32 * 1024;

/// Bytes of an answer that `nodegate routes --admin` and `explain --admin` read. Beyond: an error. Ten thousand Ingresses take a few MB.
pub const ADMIN_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Establishing a connection to the API server. Beyond: tried again after a pause.
pub const API_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a service account's token is used before its file is read again. A kubelet replaces it when a fifth of its time is left, which is minutes.
pub const API_TOKEN_AGE: Duration = Duration::from_secs(60);

/// Seconds that the API server keeps one watch open before it ends it; then it is resumed where it was. This is what bounds how long a dead
/// TCP connection goes unnoticed. Rarer than client-go's 5-10 minutes would be kinder to the API server, but a resumed watch costs it nothing.
pub const API_WATCH_SECONDS: u32 = 60;

/// A watch that ends before that was cut off. Some seconds less than [`API_WATCH_SECONDS`].
pub const API_WATCH_ENDS: Duration = Duration::from_secs(55);

/// Silence on a connection to the API server after which it counts as dead. More than [`API_WATCH_SECONDS`], and less than the 5 s beyond it after which kube
/// would resume the watch itself, as if nothing had been missed.
pub const API_READ_TIMEOUT: Duration = Duration::from_secs(64);

/// After a watch has failed whose list was complete, everything is listed anew within this time, at a moment of its own: a proxy serves on meanwhile, and all
/// nodes' watches may have ended at once. Far below the 10 s within which edits are in force after an outage.
pub const API_RELIST_SPREAD: Duration = Duration::from_secs(2);

/// Pause after a first failed request to the API server; it doubles up to [`API_BACKOFF_MAX`].
pub const API_BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause between two tries, less up to half of jitter: a restarted API server is seen within seconds.
pub const API_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Objects in one page of a list, as client-go has it. Only for API servers without streaming lists.
pub const API_PAGE_SIZE: u32 = 500;
