//! What a leader remembers of one Ingress between two looks: its last write, failures, and whether another writer undoes it. No I/O.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::networking::v1::Ingress;

use super::target::{Borne, borne, is_kept_by};
use crate::config::{
    Address,
    limits::{API_BACKOFF_MIN, STATUS_CONTEST_CALM, STATUS_CONTEST_MAX, STATUS_CONTEST_MIN, STATUS_RETRY_MAX},
};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Progress {
    written: Option<Written>,
    /// A write is queued or under way.
    pub(super) busy: bool,
    /// Before this, nothing is written.
    pub(super) not_before: Option<Instant>,
    failures: u32,
    /// Times in a row that another writer changed our addresses.
    strikes: u32,
}

/// Our last write that succeeded.
#[derive(Debug)]
struct Written {
    /// The newest version that the source has shown, of those that we know about.
    shown: String,
    /// The newest version that we know about.
    newest: String,
    addresses: Arc<BTreeSet<Address>>,
    at: Instant,
}

/// An Ingress's status as it is now, as far as we know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    /// `metadata.resourceVersion`.
    pub version: String,
    /// Its addresses.
    pub borne: Borne,
    /// Whether they are of our writing.
    pub ours: bool,
}

/// Another writer has changed our addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contested {
    /// How often in a row, this time included.
    pub strikes: u32,
    /// How long we leave it at that.
    pub pause: Duration,
}

impl Progress {
    /// Takes note of what the source shows. Returns what the status is now, and whether another has changed what we wrote.
    pub(super) fn look(
        &mut self,
        ingress: &Ingress,
        version: &str,
        accepted: bool,
        manager: &str,
        now: Instant,
    ) -> (State, Option<Contested>) {
        let shown = State { version: version.to_owned(), borne: borne(ingress), ours: is_kept_by(ingress, manager) };
        let Some(written) = &mut self.written else { return (shown, None) };
        if written.shown == version {
            if written.newest == version {
                return (shown, None);
            }
            // The source hasn't caught up with our own write.
            let addresses = written.addresses.iter().cloned().map(Some).collect();
            return (State { version: written.newest.clone(), borne: addresses, ours: true }, None);
        }
        let same = shown.borne.iter().map(Option::as_ref).eq(written.addresses.iter().map(Some));
        let contested = !same && !shown.ours && accepted;
        if same || shown.ours {
            // Ours, or a change of something else.
            version.clone_into(&mut written.shown);
            version.clone_into(&mut written.newest);
            return (shown, None);
        }
        let calm = now.saturating_duration_since(written.at) > STATUS_CONTEST_CALM;
        self.written = None;
        (shown, contested.then(|| self.contested(calm, now)))
    }

    fn contested(&mut self, calm: bool, now: Instant) -> Contested {
        self.strikes = if calm { 1 } else { self.strikes.saturating_add(1) };
        let pause = STATUS_CONTEST_MIN.saturating_mul(1 << (self.strikes - 1).min(16)).min(STATUS_CONTEST_MAX);
        self.not_before = Some(now + pause);
        Contested { strikes: self.strikes, pause }
    }

    /// A write based on `base` has made `version`.
    pub(super) fn written(&mut self, shown: String, newest: String, addresses: Arc<BTreeSet<Address>>, now: Instant) {
        (self.busy, self.failures, self.not_before) = (false, 0, None);
        self.written = Some(Written { shown, newest, addresses, at: now });
    }

    /// A write has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = API_BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(STATUS_RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        (self.busy, self.not_before) = (false, Some(now + pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ingress(last: u8, keeper: &str) -> Ingress {
        let entries = json!([{"ip": format!("192.0.2.{last}")}]);
        let metadata = json!({"managedFields": [{"manager": keeper}]});
        serde_json::from_value(json!({"metadata": metadata, "status": {"loadBalancer": {"ingress": entries}}})).unwrap()
    }

    fn addresses(last: u8) -> BTreeSet<Address> {
        [Address::Ip([192, 0, 2, last].into())].into()
    }

    fn look(progress: &mut Progress, ingress: &Ingress, version: &str, now: Instant) -> (String, bool, Option<u32>) {
        let (state, contested) = progress.look(ingress, version, true, "us", now);
        (state.version, state.ours, contested.map(|contested| contested.strikes))
    }

    #[test]
    fn until_the_source_shows_our_write_the_status_is_what_we_wrote() {
        let now = Instant::now();
        let mut progress = Progress::default();
        assert_eq!(look(&mut progress, &ingress(9, "them"), "1", now), ("1".into(), false, None));
        progress.written("1".into(), "2".into(), Arc::new(addresses(1)), now);
        let (state, _) = progress.look(&ingress(9, "them"), "1", true, "us", now);
        assert_eq!(state, State { version: "2".into(), borne: vec![Some(Address::Ip([192, 0, 2, 1].into()))], ours: true });
        assert_eq!(look(&mut progress, &ingress(1, "us"), "2", now), ("2".into(), true, None));
        // Somebody has changed a label.
        assert_eq!(look(&mut progress, &ingress(1, "us"), "3", now), ("3".into(), true, None));
        assert_eq!(progress.not_before, None);
    }

    #[test]
    fn another_writer_is_given_way_to_for_twice_as_long_each_time_up_to_the_longest() {
        let mut now = Instant::now();
        let mut progress = Progress::default();
        let mut expected = STATUS_CONTEST_MIN;
        for strike in 1..40 {
            let (ours, theirs) = (format!("{strike}-ours"), format!("{strike}-theirs"));
            progress.written(format!("{strike}"), ours, Arc::new(addresses(1)), now);
            assert_eq!(look(&mut progress, &ingress(9, "them"), &theirs, now), (theirs.clone(), false, Some(strike)));
            assert_eq!(progress.not_before, Some(now + expected), "strike {strike}");
            // Told once for one change.
            assert_eq!(look(&mut progress, &ingress(9, "them"), &theirs, now), (theirs, false, None));
            now += expected;
            expected = (expected * 2).min(STATUS_CONTEST_MAX);
        }
        progress.written("a".into(), "b".into(), Arc::new(addresses(1)), now);
        now += STATUS_CONTEST_CALM + Duration::from_secs(1);
        assert_eq!(look(&mut progress, &ingress(9, "them"), "c", now).2, Some(1), "after a long calm it begins anew");
    }

    #[test]
    fn an_ingress_that_is_not_ours_any_more_is_not_contested() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.written("1".into(), "2".into(), Arc::new(addresses(1)), now);
        let (state, contested) = progress.look(&ingress(9, "them"), "3", false, "us", now);
        assert_eq!((state.ours, contested), (false, None));
    }

    #[test]
    fn failures_are_tried_again_more_and_more_rarely_until_one_succeeds() {
        let now = Instant::now();
        let mut progress = Progress::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            progress.failed(now);
            pauses.push(progress.not_before.unwrap() - now);
        }
        assert_eq!((pauses[0], pauses[1], pauses[11]), (API_BACKOFF_MIN, API_BACKOFF_MIN * 2, STATUS_RETRY_MAX));
        progress.written("1".into(), "2".into(), Arc::default(), now);
        assert_eq!(progress.not_before, None);
    }
}
