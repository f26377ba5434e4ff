//! What a Nodegate writes to its cluster: started, and at the end stopped, in the right order. None of it in file mode.

use std::{fs, process, sync::Arc};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::warn;

use crate::{
    admin,
    compile::OWN_CONTROLLER,
    config::{ClusterSettings, limits},
    convergence, event,
    leader::{self, Election},
    source::{self, Report, SourceError},
    status,
};

/// Everything that writes to the cluster, under one leader's role.
pub(super) struct Writers {
    /// None in file mode.
    cluster: Option<Cluster>,
    events: watch::Receiver<event::Tally>,
}

struct Cluster {
    client: kube::Client,
    election: Election,
    status: status::Settings,
    counters: Arc<status::Counters>,
    reports: Arc<convergence::Counters>,
    report: watch::Receiver<Report>,
    leaving: watch::Sender<bool>,
    written: watch::Receiver<bool>,
}

impl Writers {
    /// Stands for election once there is a table, and does a leader's work whenever elected; `None`: never. Errors: those of the client.
    pub(super) async fn start(settings: Option<ClusterSettings>, report: watch::Receiver<Report>) -> Result<Self, SourceError> {
        let (tally, events) = watch::channel(event::Tally::default());
        let Some(settings) = settings else { return Ok(Self { cluster: None, events }) };
        let ClusterSettings { pod_name, pod_uid, pod_namespace, lease_name, lease_duration, publish } = settings;
        let client = source::connect(None).await?;
        let namespace = pod_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let manager = format!("nodegate:{namespace}/{lease_name}");
        let identity = pod_name.clone().unwrap_or_else(anonymous);
        let reporter = event::Reporter { controller: OWN_CONTROLLER.to_owned(), instance: identity.clone(), namespace: namespace.clone() };
        let lease = leader::Settings { namespace: namespace.clone(), name: lease_name, identity, duration: lease_duration };
        let mut table = report.clone();
        // What has no table serves nothing, and must not lead those that do; nor must what knows the cluster from its disk alone.
        let ready = async move {
            // The report's sender lives as long as the process.
            let _ = table.wait_for(Report::is_live).await;
        };
        let election = leader::stand(client.clone(), lease, ready);
        let (siblings, known_siblings) = watch::channel(None);
        tokio::spawn(event::run(client.clone(), reporter, report.clone(), known_siblings, election.role(), tally));
        let reports = Arc::default();
        let reporting = convergence::Settings { namespace: namespace.clone(), pod: pod_name.clone(), uid: pod_uid };
        tokio::spawn(convergence::run(client.clone(), reporting, report.clone(), Arc::clone(&reports)));
        let status = status::Settings { namespace, pod: pod_name, publish, manager };
        let counters = Arc::default();
        let (leaving, left) = watch::channel(false);
        let (all_written, written) = watch::channel(false);
        let told = status::Told { written: all_written, siblings };
        let (role, counted) = (election.role(), Arc::clone(&counters));
        tokio::spawn(status::run(client.clone(), status.clone(), role, report.clone(), left, told, counted));
        Ok(Self { cluster: Some(Cluster { client, election, status, counters, reports, report, leaving, written }), events })
    }

    /// What the writer of Events has done.
    pub(super) fn events(&self) -> watch::Receiver<event::Tally> {
        self.events.clone()
    }

    /// What the admin pages tell of it.
    pub(super) fn shown(&self) -> Option<admin::Cluster> {
        let Cluster { election, counters, reports, .. } = self.cluster.as_ref()?;
        Some(admin::Cluster { role: election.role(), status: Arc::clone(counters), reports: Arc::clone(reports) })
    }

    /// Before the node stops accepting: waits until no Ingress sends clients here any more, at most for the limit. From then on this process leads, if it
    /// does, only as long as something is left to write, and at most until the `deadline`, the drain's.
    pub(super) async fn withdraw(self, deadline: Instant) -> Resigned {
        let Some(Cluster { client, election, status, counters: _, reports: _, report, leaving, mut written }) = self.cluster else {
            return Resigned(None);
        };
        // Should this process lead, it knows before its pod says so.
        leaving.send_replace(true);
        let patience = deadline.saturating_duration_since(Instant::now()).min(limits::STATUS_WITHDRAW_TIMEOUT);
        let mut withdrawn = Box::pin(status::withdrawn(client, status, report));
        let in_time = time::timeout(patience, &mut withdrawn).await;
        if in_time.is_err() {
            warn!(waited_s = patience.as_secs_f64(), "Ingresses still bear this node's address: draining all the same");
        }
        let rest = async move {
            let is_withdrawn = match in_time {
                Ok(is_withdrawn) => is_withdrawn,
                Err(_) => withdrawn.await,
            };
            if is_withdrawn {
                // The sender is gone where no status is ever written.
                let _ = written.wait_for(|written| *written).await;
            }
        };
        let mut role = election.role();
        // On its own, beside the drain. Where all Nodegates leave, as they are uninstalled, nobody comes after this one who could write the rest.
        Resigned(Some(tokio::spawn(async move {
            tokio::select! {
                () = role.lost() => {}
                end = time::timeout_at(deadline, rest) => if end.is_err() {
                    warn!("the drain is over, and not every Ingress's status is written: that is up to the next leader");
                }
            }
            election.resign().await;
        })))
    }

    /// This process doesn't lead any more, at once.
    pub(super) fn resign(self) -> Resigned {
        // On its own: the Lease must not hold up the drain.
        Resigned(self.cluster.map(|cluster| tokio::spawn(cluster.election.resign())))
    }
}

/// A leader's Lease on its way back, once the leader's work is done.
pub(super) struct Resigned(Option<JoinHandle<()>>);

impl Resigned {
    /// Waits until it is released, or couldn't be, which takes no longer than [`limits::LEASE_RELEASE_TIMEOUT`] after the drain's deadline.
    pub(super) async fn done(self) {
        if let Some(resigning) = self.0 {
            // A panic in there is told by itself.
            let _ = resigning.await;
        }
    }
}

/// Who this is outside a pod: the machine and the process.
fn anonymous() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), process::id())
}
