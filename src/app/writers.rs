//! What a Nodegate writes to its cluster: started, and at the end stopped, in the right order. None of it in file mode.

use std::{fs, process};

use tokio::sync::watch;

use crate::{
    compile::OWN_CONTROLLER,
    config::ClusterSettings,
    event,
    leader::{self, Election},
    source::{self, Report, SourceError},
};

/// Everything that writes to the cluster, under one leader's role.
pub(super) struct Writers {
    /// None in file mode.
    election: Option<Election>,
    events: watch::Receiver<event::Tally>,
}

impl Writers {
    /// Stands for election once there is a table. Errors: those of the client.
    pub(super) async fn start(settings: Option<ClusterSettings>, report: watch::Receiver<Report>) -> Result<Self, SourceError> {
        let (tally, events) = watch::channel(event::Tally::default());
        let Some(settings) = settings else { return Ok(Self { election: None, events }) };
        let ClusterSettings { pod_name, pod_namespace, lease_name, lease_duration, publish: _ } = settings;
        let client = source::connect(None).await?;
        let namespace = pod_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let identity = pod_name.unwrap_or_else(anonymous);
        let reporter = event::Reporter { controller: OWN_CONTROLLER.to_owned(), instance: identity.clone() };
        let lease = leader::Settings { namespace, name: lease_name, identity, duration: lease_duration };
        let mut first = report.clone();
        // What has no table serves nothing, and must not lead those that do.
        let ready = async move {
            // The report's sender lives as long as the process.
            let _ = first.wait_for(|report| report.ready).await;
        };
        let election = leader::stand(client.clone(), lease, ready);
        tokio::spawn(event::run(client, reporter, report, election.role(), tally));
        Ok(Self { election: Some(election), events })
    }

    /// What the writer of Events has done.
    pub(super) fn events(&self) -> watch::Receiver<event::Tally> {
        self.events.clone()
    }

    /// Gives the leader's role up.
    pub(super) async fn stop(self) {
        if let Some(election) = self.election {
            election.resign().await;
        }
    }
}

/// Who this is outside a pod: the machine and the process.
fn anonymous() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), process::id())
}
