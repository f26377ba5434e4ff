//! Diagnostics as Kubernetes Events on the objects that they are about, where `kubectl describe` shows them. The leader writes them, at its leisure:
//! what should be said is compared with what was written, so that nothing is lost, only late. And, where there is room, that an edit is in force everywhere.

mod finding;
mod ledger;
mod programmed;
mod queue;
mod request;
mod write;

use kube::Client;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    config::limits::{EVENT_COUNT, PROGRAMMED_LOOK_TIMEOUT},
    convergence::{self, Progress, Seen, Target},
    leader::Role,
    source::{Report, reason},
    status::Siblings,
    waiting::{changed, sleep_until},
};
use ledger::{Ledger, Next};
use programmed::{Notice, Programmed};
use request::{Outcome, Request};

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The controller's name, such as `nodegate.dev/ingress-controller`: `kubectl describe` shows it as `From`.
    pub controller: String,
    /// The pod's name.
    pub instance: String,
    /// Its namespace, where all of our pods report what they serve.
    pub namespace: String,
}

/// The writer's numbers, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events created or changed.
    pub written: u64,
    /// Requests that failed, or were refused.
    pub errors: u64,
    /// Events that don't say yet what they should.
    pub pending: u64,
}

/// Writes for ever, whenever this process leads.
pub async fn run(
    client: Client,
    reporter: Reporter,
    mut report: watch::Receiver<Report>,
    siblings: watch::Receiver<Siblings>,
    mut role: Role,
    tally: watch::Sender<Tally>,
) -> std::convert::Infallible {
    loop {
        role.gained().await;
        let mut lost = role.clone();
        tokio::select! {
            () = lost.lost() => {}
            () = lead(Writer { client: &client, reporter: &reporter, siblings: &siblings, role: &role, tally: &tally }, &mut report) => {}
        }
        tally.send_modify(|tally| tally.pending = 0);
    }
}

/// What a leader writes with.
#[derive(Clone, Copy)]
struct Writer<'a> {
    client: &'a Client,
    reporter: &'a Reporter,
    siblings: &'a watch::Receiver<Siblings>,
    role: &'a Role,
    tally: &'a watch::Sender<Tally>,
}

/// Until the role is lost. Begins without knowing what others wrote: each Event that exists already is met by its name.
async fn lead(writer: Writer<'_>, report: &mut watch::Receiver<Report>) {
    let Writer { client, reporter, siblings: _, role, tally } = writer;
    let mut ledger = Ledger::default();
    let mut programmed = Programmed::default();
    let mut seen = Report::default();
    let mut news = true;
    loop {
        if news {
            let new = report.borrow_and_update().clone();
            // Most rebuilds change neither.
            let differs = new.diagnostics != seen.diagnostics || new.identities != seen.identities;
            if (differs || ledger.is_crowded()) && ledger.want(&new, Instant::now()) {
                log_crowd(ledger.is_crowded());
            }
            programmed.note(&new.ingresses, &new.held, Instant::now());
            seen = new;
        }
        let next = ledger.next(Instant::now());
        // Before the wait: it may be long.
        tally.send_modify(|tally| tally.pending = ledger.pending() as u64);
        match next {
            Next::Send(request) if role.leads() => {
                let (outcome, why) = write::send(client, reporter, request.words()).await;
                if ledger.done(&request, &outcome, Instant::now()) {
                    log(&request, &outcome, &why);
                }
                tally.send_modify(|tally| count(tally, &outcome));
                news = report.has_changed().unwrap_or(false);
            }
            // This process was stopped for longer than its role lasted.
            Next::Send(_) => return,
            Next::Wait(until) => {
                let Some(again) = tell(writer, &mut ledger, &mut programmed).await else { return };
                news = tokio::select! {
                    () = changed(report) => true,
                    () = sleep_until(until.into_iter().chain(again).min()) => false,
                    () = sleep_until(programmed.look_at()) => {
                        look(writer, &mut programmed).await;
                        false
                    }
                }
            }
        }
    }
}

/// Writes one Event about an edit, if one is due and there is room. Returns when to try again, if nothing else happens; `None` where this process doesn't lead
/// any more.
async fn tell(writer: Writer<'_>, ledger: &mut Ledger, programmed: &mut Programmed) -> Option<Option<Instant>> {
    let now = Instant::now();
    let Some((notice, at)) = programmed.next() else { return Some(None) };
    if at > now {
        return Some(Some(at));
    }
    if let Err(until) = ledger.spare(&notice.object, now) {
        programmed.put_off(&notice, until);
        return Some(Some(until));
    }
    if !writer.role.leads() {
        return None;
    }
    let (outcome, why) = write::send(writer.client, writer.reporter, notice.words()).await;
    writer.tally.send_modify(|tally| count(tally, &outcome));
    log_untold(&notice, &outcome, &why);
    programmed.done(&notice, &outcome, Instant::now());
    Some(Some(now))
}

/// Reads how far the edits have come.
async fn look(writer: Writer<'_>, programmed: &mut Programmed) {
    let reports = convergence::reports(writer.client, &writer.reporter.namespace);
    let (reports, error) = match time::timeout(PROGRAMMED_LOOK_TIMEOUT, reports).await {
        Ok(Ok(reports)) => (Some(reports), String::new()),
        Ok(Err(error)) => (None, reason(&error)),
        Err(_) => (None, "no answer in time".to_owned()),
    };
    // The pods last: whoever came in between has no report in the list, and is waited for.
    let Some(pods) = writer.siblings.borrow().clone() else {
        // Whoever doesn't know where our pods are has nothing to compare.
        programmed.looked(Some(&|_: &Target| Progress::default()), Instant::now());
        return;
    };
    let progress = reports.map(|reports: Seen| move |target: &Target| convergence::progress(pods.values(), &reports, target));
    let failed = progress.is_none();
    match (programmed.looked(progress.as_ref(), Instant::now()), failed) {
        (false, _) => {}
        (true, true) => {
            tracing::warn!(error, "what the nodes serve can't be read (list leases): no Event says that an edit is in force; trying again");
        }
        (true, false) => tracing::info!("what the nodes serve can be read again"),
    }
}

fn count(tally: &mut Tally, outcome: &Outcome) {
    match outcome {
        Outcome::Stored(_) => tally.written += 1,
        // Met on the way to what is written then.
        Outcome::Exists | Outcome::Missing => {}
        Outcome::Hopeless | Outcome::Refused | Outcome::Unreachable => tally.errors += 1,
    }
}

/// One line when [`EVENT_COUNT`] is reached, one when there is room again.
fn log_crowd(is_crowded: bool) {
    if is_crowded {
        tracing::warn!(
            limit = EVENT_COUNT,
            "there are more findings than Events are kept of: the rest wait; `nodegate check --cluster` lists all of them"
        );
    } else {
        tracing::info!("every finding has room for its Event again");
    }
}

/// Nobody misses it; but whoever looks for it finds why.
fn log_untold(notice: &Notice, outcome: &Outcome, why: &str) {
    if let Outcome::Hopeless | Outcome::Refused | Outcome::Unreachable = outcome {
        let (namespace, event) = (notice.object.event_namespace(), &*notice.event);
        tracing::debug!(namespace, event, error = why, "that an edit is in force couldn't be written");
    }
}

/// One line at the begin of trouble, one at its end.
fn log(request: &Request, outcome: &Outcome, why: &str) {
    let namespace = request.finding.object.event_namespace();
    match outcome {
        Outcome::Stored(_) | Outcome::Exists | Outcome::Missing => tracing::info!(namespace, "Events are written again"),
        Outcome::Hopeless => {
            let event = &*request.finding.event;
            tracing::debug!(namespace, event, error = why, "an Event can't be written: not tried again soon");
        }
        Outcome::Refused => tracing::warn!(
            namespace,
            error = why,
            "the API server refuses Events: check the role (create and patch events), quotas and policies; tried again every minute"
        ),
        Outcome::Unreachable => tracing::warn!(error = why, "Events can't be written for now; trying again"),
    }
}

#[cfg(test)]
mod tests;
