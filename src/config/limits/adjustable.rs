//! The limits that flags and tests can change, as one value; the numbers, and what they mean, are in the module above.

use std::time::Duration;

use super::{
    BODY_IDLE_TIMEOUT, BODY_MIN_RATE, BODY_RATE_GRACE, CONNECT_TIMEOUT, CONNECTIONS_PER_WORKER, DRAIN_TIMEOUT, FIRST_BYTE_TIMEOUT,
    HEADER_READ_TIMEOUT, HTTP2_STREAMS, KEEP_ALIVE_TIMEOUT, POOL_IDLE_PER_BACKEND, POOL_IDLE_PER_WORKER, POOL_IDLE_TIMEOUT, POOL_MAX_AGE,
    REQUEST_HEAD_BYTES, REQUEST_HEADER_COUNT, REQUESTS_PER_CONNECTION, RESPONSE_HEAD_BYTES, RESPONSE_HEADER_COUNT, RESPONSE_IDLE_TIMEOUT,
    TLS_HANDSHAKE_TIMEOUT, TUNNEL_IDLE_TIMEOUT, WRITE_STALL_TIMEOUT,
};

/// The limits that a flag or a test can change; the rest are the constants above. Each field says which constant it starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// [`REQUEST_HEAD_BYTES`]; `--request-head-bytes`.
    pub request_head_bytes: usize,
    /// [`REQUEST_HEADER_COUNT`]; `--request-header-count`.
    pub request_header_count: usize,
    /// [`HEADER_READ_TIMEOUT`]; `--header-read-timeout`.
    pub header_read_timeout: Duration,
    /// [`TLS_HANDSHAKE_TIMEOUT`]; `--tls-handshake-timeout`.
    pub tls_handshake_timeout: Duration,
    /// [`KEEP_ALIVE_TIMEOUT`]; `--keep-alive-timeout`.
    pub keep_alive_timeout: Duration,
    /// [`BODY_IDLE_TIMEOUT`]; `--body-idle-timeout`.
    pub body_idle_timeout: Duration,
    /// [`BODY_MIN_RATE`] in bytes a second; 0 switches the check off; `--body-min-rate`.
    pub body_min_rate: u64,
    /// [`BODY_RATE_GRACE`]; `--body-rate-grace`.
    pub body_rate_grace: Duration,
    /// [`WRITE_STALL_TIMEOUT`]; `--write-stall-timeout`.
    pub write_stall_timeout: Duration,
    /// [`HTTP2_STREAMS`]; `--http2-streams`.
    pub http2_streams: u32,
    /// [`REQUESTS_PER_CONNECTION`]; `--requests-per-connection`.
    pub requests_per_connection: u64,
    /// [`CONNECTIONS_PER_WORKER`]; `--max-connections`.
    pub max_connections: usize,
    /// [`CONNECT_TIMEOUT`]; `--connect-timeout`.
    pub connect_timeout: Duration,
    /// [`FIRST_BYTE_TIMEOUT`]; `--first-byte-timeout`.
    pub first_byte_timeout: Duration,
    /// [`RESPONSE_IDLE_TIMEOUT`]; `--response-idle-timeout`.
    pub response_idle_timeout: Duration,
    /// [`TUNNEL_IDLE_TIMEOUT`]; `--tunnel-idle-timeout`.
    pub tunnel_idle_timeout: Duration,
    /// [`RESPONSE_HEAD_BYTES`]; `--response-head-bytes`.
    pub response_head_bytes: usize,
    /// [`RESPONSE_HEADER_COUNT`]; `--response-header-count`.
    pub response_header_count: usize,
    /// [`POOL_IDLE_PER_BACKEND`]; `--pool-idle-per-backend`.
    pub pool_idle_per_backend: usize,
    /// [`POOL_IDLE_PER_WORKER`]; only tests change it.
    pub pool_idle_per_worker: usize,
    /// [`POOL_IDLE_TIMEOUT`]; `--pool-idle-timeout`.
    pub pool_idle_timeout: Duration,
    /// [`POOL_MAX_AGE`]; `--pool-max-age`.
    pub pool_max_age: Duration,
    /// [`DRAIN_TIMEOUT`]; `--drain-timeout`.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head_bytes: REQUEST_HEAD_BYTES,
            request_header_count: REQUEST_HEADER_COUNT,
            header_read_timeout: HEADER_READ_TIMEOUT,
            tls_handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            body_min_rate: BODY_MIN_RATE,
            body_rate_grace: BODY_RATE_GRACE,
            write_stall_timeout: WRITE_STALL_TIMEOUT,
            http2_streams: HTTP2_STREAMS,
            requests_per_connection: REQUESTS_PER_CONNECTION,
            max_connections: CONNECTIONS_PER_WORKER,
            connect_timeout: CONNECT_TIMEOUT,
            first_byte_timeout: FIRST_BYTE_TIMEOUT,
            response_idle_timeout: RESPONSE_IDLE_TIMEOUT,
            tunnel_idle_timeout: TUNNEL_IDLE_TIMEOUT,
            response_head_bytes: RESPONSE_HEAD_BYTES,
            response_header_count: RESPONSE_HEADER_COUNT,
            pool_idle_per_backend: POOL_IDLE_PER_BACKEND,
            pool_idle_per_worker: POOL_IDLE_PER_WORKER,
            pool_idle_timeout: POOL_IDLE_TIMEOUT,
            pool_max_age: POOL_MAX_AGE,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}
