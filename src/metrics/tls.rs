//! Handshakes, and how long certificates are good for.

use std::{
    collections::BTreeMap,
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::metrics::MetricType;

use super::{Numbers, out::Out};
use crate::table::Published;

pub(super) fn handshakes(sum: &Numbers, out: &mut Out<'_>) -> fmt::Result {
    let results = [("completed", sum.handshakes), ("failed", sum.handshakes_failed), ("dropped", sum.handshakes_dropped)];
    out.counters("nodegate_tls_handshakes", "TLS handshakes, by what came of them.", "result", &results)
}

/// Of each certificate that some host has, by its Secret: an alarm asks for less than some days.
pub(super) fn certificates(table: &Published, now: SystemTime, out: &mut Out<'_>) -> fmt::Result {
    let expiries: BTreeMap<&str, i64> =
        table.snapshot.all_certificates().map(|certificate| (certificate.source(), certificate.not_after())).collect();
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let help = "Seconds until a certificate expires, by its Secret; negative, once it has.";
    let mut family = out.family("nodegate_certificate_expiry_seconds", help, MetricType::Gauge)?;
    for (secret, not_after) in expiries {
        family.encode_family(&[("secret", secret)])?.encode_gauge(&not_after.saturating_sub(now))?;
    }
    Ok(())
}
