//! The numbers of each worker, and their Prometheus text. Workers count in plain integers of their own; a scrape asks each for a copy.

mod handover;
mod histogram;
mod labels;
mod out;
mod process;
mod render;
mod tls;

use std::{collections::HashMap, sync::Arc, time::Duration};

pub use handover::Handovers;
pub use render::{CONTENT_TYPE, ClusterNumbers, Scrape, render};

use self::histogram::{BUCKETS_US, Histogram};
use crate::{
    config::limits,
    route::{IngressId, Route},
};

/// One worker's numbers. The fields that are `open`, `idle` or `active` go up and down; the others only grow.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// Client connections that are open.
    pub connections_open: u64,
    /// Those of them that had no request in the last second, or none at all yet.
    pub connections_idle: u64,
    /// Client connections accepted.
    pub connections_accepted: u64,
    /// Client connections closed at accept, because `--allow-peers` doesn't name them.
    pub connections_refused: u64,
    /// Idle client connections closed to make room at the connection limit.
    pub connections_evicted: u64,
    /// TLS handshakes that were completed.
    pub handshakes: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// TLS handshakes that were given up because too many others were waiting to be computed.
    pub handshakes_dropped: u64,
    /// TLS handshakes that took too long.
    pub handshakes_timed_out: u64,
    /// HTTP/2 connections that were ended because of a flood.
    pub http2_floods: u64,
    /// Connections that were to begin with PROXY protocol and didn't.
    pub proxy_headers_bad: u64,
    /// Redirects to HTTPS that would have had no end.
    pub redirects_withheld: u64,
    /// Times that accepting stopped: the connection limit, or no file descriptor left.
    pub accept_paused: u64,
    /// Requests between their head and the end of their answer.
    pub active_requests: u64,
    /// Tunnels (WebSocket) that are open.
    pub tunnels_open: u64,
    /// Upstream connections that are open, idle ones included.
    pub upstream_open: u64,
    /// Upstream connections waiting in the pool.
    pub upstream_idle: u64,
    /// Attempts to establish an upstream connection.
    pub upstream_dials: u64,
    /// Those that failed or took too long.
    pub upstream_dial_failures: u64,
    /// Requests sent on a connection that was used before.
    pub upstream_reused: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Retries that the budget didn't allow.
    pub retries_denied: u64,
    /// Connections closed because no request came in time.
    pub keep_alive_timeouts: u64,
    /// Connections closed because a request's head or body came too slowly.
    pub request_timeouts: u64,
    /// Connections closed because the client didn't take its answer.
    pub write_stalls: u64,
    /// Answers cut off because the backend stopped in the middle.
    pub response_stalls: u64,
    /// Tunnels closed because nothing went through.
    pub tunnel_timeouts: u64,
    /// Access-log records dropped ([`crate::access_log::Local::dropped`]).
    pub log_dropped: u64,

    ingresses: HashMap<Arc<IngressId>, Series, foldhash::fast::RandomState>,
    /// Requests that no route was found for.
    no_route: Series,
    /// Requests of Ingresses beyond [`limits::METRIC_INGRESSES`].
    other: Series,
    /// Answers of our own (and answers cut off), by reason. The reasons are few: a list beats a map.
    reasons: Vec<(&'static str, u64)>,
}

impl Numbers {
    /// Counts a request that has ended. `upstream` is the time from sending it to the first byte of the backend's answer, `None` where no
    /// backend answered; `reason` as in the access log; bytes are those of the bodies.
    #[expect(clippy::too_many_arguments, reason = "one call, one request: a struct would only be built to be taken apart")]
    pub fn request(
        &mut self,
        route: Option<&Arc<Route>>,
        status: u16,
        reason: Option<&'static str>,
        total: Duration,
        upstream: Option<Duration>,
        bytes_in: u64,
        bytes_out: u64,
    ) {
        let ended = Ended { status, total, upstream, bytes_in, bytes_out };
        match route {
            None => self.no_route.count(&ended),
            Some(route) => {
                // One hash of some thirty bytes; the Arc, whose count all workers share, is cloned only for an Ingress's first request.
                if let Some(series) = self.ingresses.get_mut(&route.ingress) {
                    series.count(&ended);
                } else if self.ingresses.len() < limits::METRIC_INGRESSES {
                    self.ingresses.entry(Arc::clone(&route.ingress)).or_default().count(&ended);
                } else {
                    self.other.count(&ended);
                }
            }
        }
        if let Some(reason) = reason {
            match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => self.reasons.push((reason, 1)),
            }
        }
    }

    /// A copy for a scrape. Ingresses that went without a request for [`limits::METRIC_IDLE_SCRAPES`] of these are forgotten.
    #[must_use]
    pub fn scrape(&mut self) -> Self {
        self.ingresses.retain(|_, series| {
            series.idle_scrapes += 1;
            series.idle_scrapes <= limits::METRIC_IDLE_SCRAPES
        });
        self.clone()
    }

    /// Adds another worker's numbers.
    #[expect(clippy::too_many_lines, reason = "two lines for each number")]
    fn add(&mut self, other: &Self) {
        // Destructured, so that a new field can't be forgotten here.
        let Self {
            connections_open,
            connections_idle,
            connections_accepted,
            connections_refused,
            connections_evicted,
            handshakes,
            handshakes_failed,
            handshakes_dropped,
            handshakes_timed_out,
            http2_floods,
            proxy_headers_bad,
            redirects_withheld,
            accept_paused,
            active_requests,
            tunnels_open,
            upstream_open,
            upstream_idle,
            upstream_dials,
            upstream_dial_failures,
            upstream_reused,
            retries,
            retries_denied,
            keep_alive_timeouts,
            request_timeouts,
            write_stalls,
            response_stalls,
            tunnel_timeouts,
            log_dropped,
            ingresses,
            no_route,
            other: beyond,
            reasons,
        } = other;
        for (sum, value) in [
            (&mut self.connections_open, connections_open),
            (&mut self.connections_idle, connections_idle),
            (&mut self.connections_accepted, connections_accepted),
            (&mut self.connections_refused, connections_refused),
            (&mut self.connections_evicted, connections_evicted),
            (&mut self.handshakes, handshakes),
            (&mut self.handshakes_failed, handshakes_failed),
            (&mut self.handshakes_dropped, handshakes_dropped),
            (&mut self.handshakes_timed_out, handshakes_timed_out),
            (&mut self.http2_floods, http2_floods),
            (&mut self.proxy_headers_bad, proxy_headers_bad),
            (&mut self.redirects_withheld, redirects_withheld),
            (&mut self.accept_paused, accept_paused),
            (&mut self.active_requests, active_requests),
            (&mut self.tunnels_open, tunnels_open),
            (&mut self.upstream_open, upstream_open),
            (&mut self.upstream_idle, upstream_idle),
            (&mut self.upstream_dials, upstream_dials),
            (&mut self.upstream_dial_failures, upstream_dial_failures),
            (&mut self.upstream_reused, upstream_reused),
            (&mut self.retries, retries),
            (&mut self.retries_denied, retries_denied),
            (&mut self.keep_alive_timeouts, keep_alive_timeouts),
            (&mut self.request_timeouts, request_timeouts),
            (&mut self.write_stalls, write_stalls),
            (&mut self.response_stalls, response_stalls),
            (&mut self.tunnel_timeouts, tunnel_timeouts),
            (&mut self.log_dropped, log_dropped),
        ] {
            *sum = sum.saturating_add(*value);
        }
        for (ingress, series) in ingresses {
            self.ingresses.entry(Arc::clone(ingress)).or_default().add(series);
        }
        self.no_route.add(no_route);
        self.other.add(beyond);
        self.add_reasons(reasons);
    }

    fn add_reasons(&mut self, reasons: &[(&'static str, u64)]) {
        for (reason, count) in reasons {
            match self.reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, sum)) => *sum += count,
                None => self.reasons.push((reason, *count)),
            }
        }
    }
}

/// 1xx to 5xx.
const STATUS_CLASSES: usize = 5;

/// What is counted for one Ingress.
#[derive(Debug, Clone, Default)]
struct Series {
    classes: [u64; STATUS_CLASSES],
    total: Histogram,
    upstream: Histogram,
    bytes_in: u64,
    bytes_out: u64,
    /// Scrapes since the last request.
    idle_scrapes: u32,
}

/// A request that has ended.
struct Ended {
    status: u16,
    total: Duration,
    upstream: Option<Duration>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Series {
    fn count(&mut self, ended: &Ended) {
        self.idle_scrapes = 0;
        // A backend may send a status up to 999, which counts as the class it is nearest to.
        let class = usize::from(ended.status / 100).clamp(1, STATUS_CLASSES) - 1;
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1;
        }
        self.total.observe(ended.total);
        if let Some(upstream) = ended.upstream {
            self.upstream.observe(upstream);
        }
        self.bytes_in = self.bytes_in.saturating_add(ended.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(ended.bytes_out);
    }

    fn add(&mut self, other: &Self) {
        let Self { classes, total, upstream, bytes_in, bytes_out, idle_scrapes: _ } = other;
        for (sum, count) in self.classes.iter_mut().zip(classes) {
            *sum += count;
        }
        self.total.add(total);
        self.upstream.add(upstream);
        self.bytes_in = self.bytes_in.saturating_add(*bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(*bytes_out);
    }

    fn is_empty(&self) -> bool {
        self.total.is_empty()
    }
}

#[cfg(test)]
mod tests;
