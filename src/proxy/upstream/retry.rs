//! When a request may be sent a second time, and how often that may happen altogether.

use std::cell::Cell;

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{
    super::body::{Progress, RequestBody},
    broken::Fate,
    lease::Lease,
};
use crate::config::limits::{RETRY_BUDGET_MAX, RETRY_BUDGET_REQUESTS};

/// A copy of a request without a body, for the cases in which it may be replayed after bytes were written: a backend that says that it hasn't looked at it; and,
/// of an idempotent one (RFC 9110 section 9.2.2), a connection that closes without a byte of a response, if it had carried requests before, so that it may have
/// been closed before this one, or if the host that has failed is one of several.
pub(super) struct Spare {
    several: bool,
    method: Method,
    uri: Uri,
    /// A list, since a copy of the map would cost twice as much, and nearly all are thrown away.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Spare {
    /// `several`: there are other hosts that may answer what this one doesn't.
    pub(super) fn of(request: &Request<RequestBody>, lease: &Lease, several: bool, progress: &Progress) -> Option<Self> {
        let replayable = lease.is_multiplexed() || ((lease.is_reused() || several) && request.method().is_idempotent());
        (replayable && !progress.has_body()).then(|| Self {
            several,
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        })
    }

    /// Whether it may be sent after one that has met with this on that connection.
    pub(super) fn may_follow(&self, fate: Fate, lease: &Lease) -> bool {
        match fate {
            Fate::Untouched => true,
            Fate::Unknown => (lease.is_reused() || self.several) && self.method.is_idempotent() && !lease.has_heard(),
            Fate::Spent => false,
        }
    }

    pub(super) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = Version::HTTP_11;
        for (name, value) in self.headers {
            request.headers_mut().append(name, value);
        }
        request
    }
}

/// Retries as a share of requests: each request earns a part of one, up to a maximum, so that retries can't multiply an outage.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In parts of a retry: [`RETRY_BUDGET_REQUESTS`] of them are one.
    parts: Cell<u32>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { parts: Cell::new(RETRY_BUDGET_MAX * RETRY_BUDGET_REQUESTS) }
    }
}

impl Budget {
    /// A request has come.
    pub(crate) fn deposit(&self) {
        self.parts.set((self.parts.get() + 1).min(RETRY_BUDGET_MAX * RETRY_BUDGET_REQUESTS));
    }

    /// Takes one retry, if there is one.
    pub(crate) fn withdraw(&self) -> bool {
        let left = self.parts.get().checked_sub(RETRY_BUDGET_REQUESTS);
        if let Some(left) = left {
            self.parts.set(left);
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests() {
        let budget = Budget::default();
        for _ in 0..RETRY_BUDGET_MAX {
            assert!(budget.withdraw());
        }
        assert!(!budget.withdraw());
        for _ in 1..RETRY_BUDGET_REQUESTS {
            budget.deposit();
            assert!(!budget.withdraw());
        }
        budget.deposit();
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
    }
}
