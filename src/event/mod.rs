//! Diagnostics as Kubernetes Events on the objects that they are about, where `kubectl describe` shows them. The leader writes them, at its leisure:
//! what should be said is compared with what was written, so that nothing is lost, only late.

mod bucket;
mod finding;
mod ledger;
mod queue;
mod request;
mod write;

use std::future::pending;

use kube::Client;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{config::limits::EVENT_COUNT, leader::Role, source::Report};
use ledger::{Ledger, Next};
use request::{Outcome, Request};

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The controller's name, such as `nodegate.dev/ingress-controller`: `kubectl describe` shows it as `From`.
    pub controller: String,
    /// The pod's name.
    pub instance: String,
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
    mut role: Role,
    tally: watch::Sender<Tally>,
) -> std::convert::Infallible {
    loop {
        role.gained().await;
        let mut lost = role.clone();
        tokio::select! {
            () = lost.lost() => {}
            () = lead(&client, &reporter, &mut report, &role, &tally) => {}
        }
        tally.send_modify(|tally| tally.pending = 0);
    }
}

/// Until the role is lost. Begins without knowing what others wrote: each Event that exists already is met by its name.
async fn lead(client: &Client, reporter: &Reporter, report: &mut watch::Receiver<Report>, role: &Role, tally: &watch::Sender<Tally>) {
    let mut ledger = Ledger::default();
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
            seen = new;
        }
        let next = ledger.next(Instant::now());
        // Before the wait: it may be long.
        tally.send_modify(|tally| tally.pending = ledger.pending() as u64);
        match next {
            Next::Send(request) if role.leads() => {
                let (outcome, why) = write::send(client, reporter, &request).await;
                if ledger.done(&request, &outcome, Instant::now()) {
                    log(&request, &outcome, &why);
                }
                tally.send_modify(|tally| count(tally, &outcome));
                news = report.has_changed().unwrap_or(false);
            }
            // This process was stopped for longer than its role lasted.
            Next::Send(_) => return,
            Next::Wait(until) => {
                news = tokio::select! {
                    () = changed(report) => true,
                    () = sleep_until(until) => false,
                }
            }
        }
    }
}

/// Waits for a report. A source that has ended has no more.
async fn changed(report: &mut watch::Receiver<Report>) {
    if report.changed().await.is_err() {
        pending::<()>().await;
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => time::sleep_until(until).await,
        None => pending().await,
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
