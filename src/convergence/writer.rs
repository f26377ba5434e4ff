//! Writes this process's report whenever it has changed, at its pace. Never in anybody's way: what fails is tried again, and said once.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams},
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{
    pace::Pace,
    report::{PodReport, lease_name},
};
use crate::{
    config::limits::REPORT_WRITE_TIMEOUT,
    source::{Report, reason},
    waiting::{changed, sleep_until},
};

/// The field manager.
const MANAGER: &str = "nodegate-serves";

/// Whose report it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our namespace.
    pub namespace: String,
    /// Our pod; nothing is reported where either is missing.
    pub pod: Option<String>,
    /// Its uid: with the pod goes its report.
    pub uid: Option<String>,
}

/// The writer's numbers, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reports written.
    pub written: AtomicU64,
    /// Tries that failed.
    pub errors: AtomicU64,
}

/// Reports for ever.
pub async fn run(client: Client, settings: Settings, mut report: watch::Receiver<Report>, counters: Arc<Counters>) -> Infallible {
    let Settings { namespace, pod, uid } = settings;
    let Some((pod, uid)) = pod.zip(uid) else {
        tracing::info!(
            "--pod-name or --pod-uid isn't given: which versions this node serves isn't reported, and `nodegate wait` waits in vain for it"
        );
        return pending().await;
    };
    let mut writer = Writer { leases: Api::namespaced(client, &namespace), namespace, pod, uid, counters, said: String::new() };
    let (mut pace, started) = (Pace::new(fastrand::f64()), Timestamp::now());
    // What the Lease says, and until when that is left alone.
    let mut last: Option<(PodReport, Instant)> = None;
    loop {
        let (now, generation, report_now) = {
            let report = report.borrow_and_update();
            (Instant::now(), report.generation, PodReport::of(&report, started))
        };
        let due = match (&report_now, &last) {
            (None, _) => None,
            (Some(report), Some((said, until))) if report == said => {
                pace.nothing();
                Some(*until)
            }
            (Some(_), _) => Some(pace.due(now)),
        };
        tokio::select! {
            () = changed(&mut report) => continue,
            () = sleep_until(due) => {}
        }
        let Some(report) = report_now else { continue };
        if writer.write(&report, generation).await {
            last = Some((report, pace.written(Instant::now())));
        } else {
            pace.failed(Instant::now());
            last = None;
        }
    }
}

struct Writer {
    leases: Api<Lease>,
    namespace: String,
    pod: String,
    uid: String,
    counters: Arc<Counters>,
    said: String,
}

impl Writer {
    /// Whether it is written.
    async fn write(&mut self, report: &PodReport, generation: u64) -> bool {
        let lease = Patch::Apply(report.lease(&self.namespace, &self.pod, &self.uid, generation));
        let name = lease_name(&self.pod);
        let params = PatchParams::apply(MANAGER).force();
        let error = match time::timeout(REPORT_WRITE_TIMEOUT, self.leases.patch(&name, &params, &lease)).await {
            Ok(Ok(_)) => {
                self.counters.written.fetch_add(1, Ordering::Relaxed);
                if !std::mem::take(&mut self.said).is_empty() {
                    tracing::info!(lease = name, "what this node serves is reported again");
                }
                return true;
            }
            Ok(Err(Error::Api(status))) if matches!(status.code, 401 | 403) => {
                format!("{}; check the ServiceAccount's Role: create and patch of leases", status.message)
            }
            Ok(Err(error)) => reason(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        if self.said.is_empty() {
            tracing::warn!(lease = name, error, "can't report what this node serves, which `nodegate wait` waits for; trying again");
            self.said = error;
        }
        false
    }
}
