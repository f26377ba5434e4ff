//! The Lease itself: what it says, what follows from that, and the requests. Expiry is judged by how long we saw no change, not by its times.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Error,
    api::{GetParams, ObjectMeta, PostParams},
};
use tokio::{sync::watch, time};

use super::Settings;
use crate::{
    config::limits::{LEASE_DURATION_BELIEVED, LEASE_RELEASE_TRIES},
    source::reason,
};

/// One candidate, and what it knows.
pub(super) struct Candidate {
    leases: Api<Lease>,
    settings: Settings,
    until: watch::Sender<Option<Instant>>,
    /// What the Lease said when it last changed, and when we saw that.
    seen: Option<(LeaseSpec, Instant)>,
    /// `spec.acquireTime` of our last attempt to acquire it. Together with our identity it makes the Lease ours, and not that of a process that ran
    /// before us under the same name (a restarted container).
    acquired: Option<MicroTime>,
    leading: bool,
    said: String,
}

/// What a Lease means to a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// We hold it.
    Ours,
    /// Nobody does, or nobody does any more.
    Free,
    /// Somebody else does.
    Held,
}

impl Candidate {
    pub(super) fn new(client: Client, settings: Settings, until: watch::Sender<Option<Instant>>) -> Self {
        let leases = Api::namespaced(client, &settings.namespace);
        Self { leases, settings, until, seen: None, acquired: None, leading: false, said: String::new() }
    }

    /// Until the next look. With jitter, so that candidates that started together don't come together for ever.
    pub(super) fn pause(&self) -> Duration {
        self.settings.pause().mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    /// One look at the Lease, and the write that follows from it.
    pub(super) async fn look(&mut self) {
        match time::timeout(self.settings.patience(), self.look_and_act()).await {
            Ok(Ok(())) => self.said.clear(),
            Ok(Err(error)) => self.complain(&error),
            Err(_) => self.say("no answer in time".to_owned()),
        }
        let leads = self.until.borrow().is_some_and(|until| Instant::now() < until);
        if leads != self.leading {
            self.leading = leads;
            let Settings { namespace, name, identity, .. } = &self.settings;
            if leads {
                tracing::info!(identity, lease = %format_args!("{namespace}/{name}"), "leading");
            } else {
                tracing::warn!(identity, lease = %format_args!("{namespace}/{name}"), "not leading any more: the Lease couldn't be renewed");
            }
        }
    }

    async fn look_and_act(&mut self) -> Result<(), Error> {
        let Some(lease) = self.read().await? else {
            let spec = self.claim(&LeaseSpec::default());
            return self.write(Lease { metadata: self.metadata(), spec: Some(spec) }, true).await;
        };
        let verdict = self.judge(lease.spec.clone().unwrap_or_default(), Instant::now());
        let spec = lease.spec.unwrap_or_default();
        let spec = match verdict {
            Verdict::Ours => LeaseSpec { renew_time: now(), lease_duration_seconds: self.seconds(), ..spec },
            Verdict::Free => self.claim(&spec),
            Verdict::Held => return Ok(()),
        };
        // With the version that was read: whoever wrote in between has won.
        self.write(Lease { metadata: lease.metadata, spec: Some(spec) }, false).await
    }

    /// The Lease. Whoever follows takes what the API server has in its cache: on every node of a large cluster somebody asks every two seconds, and the
    /// database needn't hear of it. One that is out of date does no harm, since whoever writes on the strength of it is refused (409).
    async fn read(&self) -> Result<Option<Lease>, Error> {
        let how = if self.leading { GetParams::default() } else { GetParams::any() };
        match self.leases.get_with(&self.settings.name, &how).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the Lease, and leads from the moment *before* that: nobody can have seen it earlier.
    async fn write(&mut self, lease: Lease, create: bool) -> Result<(), Error> {
        let sent = Instant::now();
        let written = if create {
            self.leases.create(&PostParams::default(), &lease).await
        } else {
            self.leases.replace(&self.settings.name, &PostParams::default(), &lease).await
        };
        match written {
            Ok(_) => {
                self.until.send_replace(Some(sent + self.settings.term()));
                Ok(())
            }
            // Another was faster. The next look shows who.
            Err(Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What a Lease that says this means now.
    pub(super) fn judge(&mut self, spec: LeaseSpec, now: Instant) -> Verdict {
        let since = match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => now,
        };
        let verdict = verdict(&spec, &self.settings, self.acquired.as_ref(), now.saturating_duration_since(since));
        self.seen = Some((spec, since));
        verdict
    }

    /// The Lease as our own, in place of what it says.
    fn claim(&mut self, old: &LeaseSpec) -> LeaseSpec {
        let now = now();
        self.acquired.clone_from(&now);
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: self.seconds(),
            lease_transitions: Some(old.lease_transitions.map_or(0, |transitions| transitions.saturating_add(1))),
            acquire_time: now.clone(),
            renew_time: now,
            ..LeaseSpec::default()
        }
    }

    /// Leads no more, and lets the next one begin at once.
    pub(super) async fn release(&mut self) {
        self.until.send_replace(None);
        for _ in 0..LEASE_RELEASE_TRIES {
            match self.release_once().await {
                Ok(()) => return,
                // A renewal that was under way has arrived in between.
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => return self.complain(&error),
            }
        }
    }

    async fn release_once(&mut self) -> Result<(), Error> {
        let Some(lease) = self.leases.get_opt(&self.settings.name).await? else { return Ok(()) };
        let spec = lease.spec.unwrap_or_default();
        if !is_ours(&spec, &self.settings, self.acquired.as_ref()) {
            return Ok(());
        }
        let spec = LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), renew_time: now(), ..spec };
        let lease = Lease { metadata: lease.metadata, spec: Some(spec) };
        self.leases.replace(&self.settings.name, &PostParams::default(), &lease).await?;
        tracing::info!(identity = self.settings.identity, "released the leader's Lease");
        Ok(())
    }

    fn metadata(&self) -> ObjectMeta {
        let Settings { namespace, name, .. } = &self.settings;
        ObjectMeta { namespace: Some(namespace.clone()), name: Some(name.clone()), ..ObjectMeta::default() }
    }

    /// Rounded up: the others may wait longer than they must, never less.
    fn seconds(&self) -> Option<i32> {
        i32::try_from(self.settings.duration.as_millis().div_ceil(1000)).ok()
    }

    fn complain(&mut self, error: &Error) {
        let refused = matches!(error, Error::Api(status) if matches!(status.code, 401 | 403));
        let help = if refused { "; check the ServiceAccount's Role: get, create and update of leases" } else { "" };
        self.say(format!("{}{help}", reason(error)));
    }

    /// Once for each trouble, however long it lasts.
    fn say(&mut self, trouble: String) {
        if self.said != trouble {
            let Settings { namespace, name, .. } = &self.settings;
            tracing::warn!(lease = %format_args!("{namespace}/{name}"), error = trouble, "leader election is interrupted; trying again");
            self.said = trouble;
        }
    }
}

/// `unchanged`: how long we have seen the Lease say just this.
fn verdict(spec: &LeaseSpec, settings: &Settings, acquired: Option<&MicroTime>, unchanged: Duration) -> Verdict {
    if spec.holder_identity.as_ref().is_none_or(String::is_empty) {
        return Verdict::Free;
    }
    if is_ours(spec, settings, acquired) {
        return Verdict::Ours;
    }
    // A holder with a longer duration is given it; one that claims a year isn't.
    let declared = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let wait = declared.unwrap_or_default().min(LEASE_DURATION_BELIEVED).max(settings.duration);
    if unchanged >= wait { Verdict::Free } else { Verdict::Held }
}

fn is_ours(spec: &LeaseSpec, settings: &Settings, acquired: Option<&MicroTime>) -> bool {
    let micros = |time: &MicroTime| time.0.as_microsecond();
    let same_term = acquired.map(micros).is_some_and(|ours| spec.acquire_time.as_ref().map(micros) == Some(ours));
    same_term && spec.holder_identity.as_ref() == Some(&settings.identity)
}

#[expect(clippy::unnecessary_wraps, reason = "as the fields have it")]
fn now() -> Option<MicroTime> {
    Some(MicroTime(Timestamp::now()))
}
