//! A watch that fails: how long to wait before the next try, and what to say about it.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use kube::runtime::watcher;
use tokio::time::Instant;

use crate::config::limits::{API_BACKOFF_MAX, API_BACKOFF_MIN, API_RELIST_SPREAD};

/// Failures in a row: how long to wait, and what was said about them, so that an outage of hours is a few lines in the log.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
    said: String,
    last: Option<Instant>,
    /// The API server is back, and has forgotten where we were.
    expired: bool,
    /// When the list was complete last: what fails then costs nobody the table that there is.
    listed: Option<Instant>,
    /// It was complete again since the first of the failures, which was said.
    back: bool,
}

impl Trouble {
    /// Another failure. Returns how long to wait.
    pub(super) fn another(&mut self, what: &str, error: &watcher::Error) -> Duration {
        // A watch on which nothing happens shows in nothing but the absence of failures since its list.
        let before = self.last.replace(Instant::now());
        if self.listed.is_some_and(|listed| before.is_some_and(|before| listed >= before) && listed.elapsed() > API_BACKOFF_MAX * 3) {
            self.forget(what);
        }
        // It answers, so the pauses of its absence are no measure any more; but only once, lest a server that always says so be flooded.
        if is_expired(error) && !self.expired {
            (self.failures, self.expired) = (0, true);
        }
        let text = chain(error);
        if self.said != text {
            let until_then = self.until_then();
            if is_refusal(error) {
                tracing::error!(list = what, error = text, "the API server refuses: check the ServiceAccount's ClusterRole; {until_then}");
            } else {
                tracing::warn!(list = what, error = text, "watch interrupted; trying again; {until_then}");
            }
            self.said = text;
        }
        let first = self.failures == 0;
        let pause = API_BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(API_BACKOFF_MAX);
        self.failures += 1;
        if first && self.has_listed() { API_RELIST_SPREAD.mul_f64(random_share()) } else { pause.mul_f64(1.0 - random_share() / 2.0) }
    }

    /// The list is complete. That the watch behind it goes on has still to be seen: a server may refuse it each time.
    pub(super) fn listed(&mut self, what: &str) {
        self.listed = Some(Instant::now());
        if self.failures > 0 && !std::mem::replace(&mut self.back, true) {
            tracing::info!(list = what, failures = self.failures, "listed again");
            // Should it fail all the same, that is the last word.
            self.said.clear();
        }
    }

    /// Whether it was complete once.
    pub(super) fn has_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// What changes arrives. It works, if it has done so for a while.
    pub(super) fn over(&mut self, what: &str) {
        if self.listed.is_none_or(|listed| listed.elapsed() > API_BACKOFF_MAX) {
            self.forget(what);
        }
    }

    fn forget(&mut self, what: &str) {
        if self.failures > 0 {
            tracing::info!(list = what, failures = self.failures, "watch is back");
            *self = Self { listed: self.listed, last: self.last, ..Self::default() };
        }
    }

    /// What holds while it fails. There is no table before every list was complete, this one included.
    fn until_then(&self) -> &'static str {
        if self.has_listed() { "until then the last table stays in force" } else { "until then not ready" }
    }
}

/// The API server answers, and won't let us: no copy of what it had said before is to hide that.
pub(super) fn is_refusal(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        if status.code == 403)
}

/// Whether the history that a watch would go on from is gone.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// What the API server said, or why it couldn't be asked, in one line.
pub fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => chain(error),
    }
}

/// The error and its causes in one line, as an expired certificate is told only by the innermost.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// From 0 to 1, good enough to keep the nodes of a cluster from coming back in step: the standard library's hash keys are random.
fn random_share() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn not_ready_is_said_before_the_first_complete_list_alone() {
        let mut trouble = Trouble::default();
        let fail = |trouble: &mut Trouble| _ = trouble.another("Ingress", &watcher::Error::NoResourceVersion);
        fail(&mut trouble);
        // A quiet time is taken for the end of the failures, and brings no list all the same.
        tokio::time::sleep(API_BACKOFF_MAX * 4).await;
        fail(&mut trouble);
        assert_eq!(trouble.until_then(), "until then not ready");
        trouble.listed("Ingress");
        for _ in 0..2 {
            fail(&mut trouble);
            assert_eq!(trouble.until_then(), "until then the last table stays in force");
            tokio::time::sleep(API_BACKOFF_MAX * 4).await;
        }
    }
}
