//! The flags of limits and timeouts.

#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links, reason = "these comments are the help texts, which are no Markdown")]

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use clap::Args;

use super::super::{limits, span::Span};

/// The limits that operators tune; [`limits`] says what each is for and what happens there.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// How long requests may take to finish on SIGTERM
    #[arg(long, env = "NODEGATE_DRAIN_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::DRAIN_TIMEOUT))]
    pub drain_timeout: Span,
    /// A client connection without a request
    #[arg(long, env = "NODEGATE_KEEP_ALIVE_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::KEEP_ALIVE_TIMEOUT))]
    pub keep_alive_timeout: Span,
    /// From accept to the end of the TLS handshake
    #[arg(long, env = "NODEGATE_TLS_HANDSHAKE_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::TLS_HANDSHAKE_TIMEOUT))]
    pub tls_handshake_timeout: Span,
    /// From the first byte of a request's head to its last
    #[arg(long, env = "NODEGATE_HEADER_READ_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::HEADER_READ_TIMEOUT))]
    pub header_read_timeout: Span,
    /// Between two reads of a request's body
    #[arg(long, env = "NODEGATE_BODY_IDLE_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::BODY_IDLE_TIMEOUT))]
    pub body_idle_timeout: Span,
    /// Bytes a second that a request's body must reach on average; 0: any
    #[arg(long, env = "NODEGATE_BODY_MIN_RATE", value_name = "BYTES", default_value_t = limits::BODY_MIN_RATE)]
    pub body_min_rate: u64,
    /// How long a request's body may be slower than that
    #[arg(long, env = "NODEGATE_BODY_RATE_GRACE", value_name = "TIME", default_value_t = Span(limits::BODY_RATE_GRACE))]
    pub body_rate_grace: Span,
    /// A client that takes nothing of its answer
    #[arg(long, env = "NODEGATE_WRITE_STALL_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::WRITE_STALL_TIMEOUT))]
    pub write_stall_timeout: Span,
    /// Establishing a connection to a backend
    #[arg(long, env = "NODEGATE_CONNECT_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::CONNECT_TIMEOUT))]
    pub connect_timeout: Span,
    /// From the last byte sent to a backend to the first of its answer
    #[arg(long, env = "NODEGATE_FIRST_BYTE_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::FIRST_BYTE_TIMEOUT))]
    pub first_byte_timeout: Span,
    /// Between two reads of an answer's body
    #[arg(long, env = "NODEGATE_RESPONSE_IDLE_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::RESPONSE_IDLE_TIMEOUT))]
    pub response_idle_timeout: Span,
    /// A tunnel, or a call of gRPC, without a byte in either direction
    #[arg(long, env = "NODEGATE_TUNNEL_IDLE_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::TUNNEL_IDLE_TIMEOUT))]
    pub tunnel_idle_timeout: Span,
    /// Client connections of one worker
    #[arg(long, env = "NODEGATE_MAX_CONNECTIONS", value_name = "N", default_value_t = whole(limits::CONNECTIONS_PER_WORKER))]
    pub max_connections: NonZeroUsize,
    /// Requests that an HTTP/2 connection may have under way
    #[arg(long, env = "NODEGATE_HTTP2_STREAMS", value_name = "N", default_value_t = streams())]
    pub http2_streams: NonZeroU32,
    /// Requests on one client connection
    #[arg(long, env = "NODEGATE_REQUESTS_PER_CONNECTION", value_name = "N", default_value_t = requests())]
    pub requests_per_connection: NonZeroU64,
    /// Bytes of a request's head
    #[arg(long, env = "NODEGATE_REQUEST_HEAD_BYTES", value_name = "BYTES", default_value_t = limits::REQUEST_HEAD_BYTES)]
    pub request_head_bytes: usize,
    /// Header fields of a request
    #[arg(long, env = "NODEGATE_REQUEST_HEADER_COUNT", value_name = "N", default_value_t = whole(limits::REQUEST_HEADER_COUNT))]
    pub request_header_count: NonZeroUsize,
    /// Bytes of an answer's head
    #[arg(long, env = "NODEGATE_RESPONSE_HEAD_BYTES", value_name = "BYTES", default_value_t = limits::RESPONSE_HEAD_BYTES)]
    pub response_head_bytes: usize,
    /// Header fields of an answer
    #[arg(long, env = "NODEGATE_RESPONSE_HEADER_COUNT", value_name = "N", default_value_t = whole(limits::RESPONSE_HEADER_COUNT))]
    pub response_header_count: NonZeroUsize,
    /// Idle connections that a worker keeps to one backend address
    #[arg(long, env = "NODEGATE_POOL_IDLE_PER_BACKEND", value_name = "N", default_value_t = limits::POOL_IDLE_PER_BACKEND)]
    pub pool_idle_per_backend: usize,
    /// How long a connection to a backend stays idle
    #[arg(long, env = "NODEGATE_POOL_IDLE_TIMEOUT", value_name = "TIME", default_value_t = Span(limits::POOL_IDLE_TIMEOUT))]
    pub pool_idle_timeout: Span,
    /// Age at which a connection to a backend isn't reused
    #[arg(long, env = "NODEGATE_POOL_MAX_AGE", value_name = "TIME", default_value_t = Span(limits::POOL_MAX_AGE))]
    pub pool_max_age: Span,
}

/// A limit's constant as the type that its flag is read in; none of them is zero.
fn whole(constant: usize) -> NonZeroUsize {
    NonZeroUsize::new(constant).unwrap_or(NonZeroUsize::MIN)
}

fn streams() -> NonZeroU32 {
    NonZeroU32::new(limits::HTTP2_STREAMS).unwrap_or(NonZeroU32::MIN)
}

fn requests() -> NonZeroU64 {
    NonZeroU64::new(limits::REQUESTS_PER_CONNECTION).unwrap_or(NonZeroU64::MIN)
}
