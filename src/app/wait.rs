//! `nodegate wait`: until every node serves an Ingress as it is now.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::{Api, Client, Error, api::ListParams};
use tokio::time::{self, Instant};

use super::print;
use crate::{
    compile,
    config::{
        Span,
        args::{IngressName, WaitArgs},
        limits::{WAIT_HELD, WAIT_POLL, WAIT_REQUEST_TIMEOUT, WAIT_TIMEOUT, WAIT_TIMEOUT_MAX},
        options,
    },
    convergence::{self, Lag, Progress, Target},
    source, status,
};

/// What every pod of ours is labelled with, whichever way it was installed.
const PODS: &str = "app.kubernetes.io/name=nodegate";

/// Nodes that are named in one line.
const NAMED: usize = 10;

/// `nodegate wait`: exit 1 if the Ingress isn't in force on every node in time, or never will be.
pub(super) async fn wait(args: WaitArgs) -> anyhow::Result<ExitCode> {
    let WaitArgs { ingress, timeout, nodegate_namespace, table } = args;
    let timeout = timeout.map_or(WAIT_TIMEOUT, |timeout| timeout.0);
    if timeout.is_zero() || timeout > WAIT_TIMEOUT_MAX {
        bail!("invalid value for '--timeout': must be more than 0, and not more than {}", Span(WAIT_TIMEOUT_MAX));
    }
    let client = source::connect(None).await?;
    let wait = Wait { client, ingress, nodegate_namespace, timeout, deadline: Instant::now() + timeout };
    match wait.until_in_force(&options(&table, true)).await {
        Ok(said) => print(&said),
        Err(error) => {
            eprintln!("nodegate: {error:#}");
            Ok(ExitCode::from(1))
        }
    }
}

struct Wait {
    client: Client,
    ingress: IngressName,
    nodegate_namespace: String,
    timeout: Duration,
    deadline: Instant,
}

impl Wait {
    /// Returns what to say in the end.
    async fn until_in_force(&self, options: &compile::Options) -> anyhow::Result<String> {
        let (target, uid) = self.begin(options).await?;
        let (mut said, mut held_since) = (String::new(), None);
        loop {
            let progress = self.look(&target, &uid).await?;
            if progress.is_complete() {
                let Target { namespace, name, version } = &target;
                let nodes = progress.nodes;
                return Ok(format!("{namespace}/{name} is in force on {nodes} of {nodes} nodes (resourceVersion {version})\n"));
            }
            is_hopeless(&progress, &target)?;
            if progress.lagging.values().any(|lag| matches!(lag, Lag::Held | Lag::PerhapsHeld)) {
                // What it lacks may be on its way.
                if held_since.get_or_insert_with(Instant::now).elapsed() >= WAIT_HELD {
                    self.is_held(&progress)?;
                }
            } else {
                held_since = None;
            }
            let state = state(&progress);
            if Instant::now() + WAIT_POLL > self.deadline {
                let (ingress, version, timeout) = (&self.ingress, target.version, Span(self.timeout));
                bail!("{ingress} (resourceVersion {version}) isn't in force everywhere after {timeout}: {state}");
            }
            if state != said {
                eprintln!("{state}");
                said = state;
            }
            time::sleep(WAIT_POLL).await;
        }
    }

    /// The version to wait for, and the uid of its object; once it is clear that we serve it at all.
    async fn begin(&self, options: &compile::Options) -> anyhow::Result<(Target, String)> {
        let IngressName { namespace, name } = &self.ingress;
        let Some(ingress) = self.read().await? else {
            bail!("there is no Ingress {namespace}/{name}: check its name and namespace, and which cluster KUBECONFIG is for");
        };
        let classes = Api::<IngressClass>::all(self.client.clone());
        let classes = self.ask("list IngressClasses", async || classes.list(&ListParams::default()).await).await?;
        let metadata = ingress.metadata.clone();
        if let Err(findings) = compile::claim(ingress, classes.items, options) {
            let why: Vec<String> = findings.iter().map(|finding| format!("; {}; {}", finding.message, finding.help)).collect();
            let help = "no node will ever serve it (where Nodegate runs with other flags for classes, give them here, too)";
            bail!("Ingress {namespace}/{name} isn't Nodegate's by its class{}: {help}", why.concat());
        }
        let text = metadata.resource_version.unwrap_or_default();
        let version = source::version_number(&text).with_context(|| {
            format!("the resourceVersion {text:?} of Ingress {namespace}/{name} is no number: nodes can't be compared by it")
        })?;
        Ok((Target { namespace: namespace.clone(), name: name.clone(), version }, metadata.uid.unwrap_or_default()))
    }

    /// How far it is now, as long as it is the same Ingress.
    async fn look(&self, target: &Target, uid: &str) -> anyhow::Result<Progress> {
        let (ingress, namespace) = (&self.ingress, &self.nodegate_namespace);
        match self.read().await? {
            None => bail!("Ingress {ingress} was deleted meanwhile"),
            Some(now) if now.metadata.uid.as_deref() != Some(uid) => {
                bail!("Ingress {ingress} was deleted meanwhile, and another one created")
            }
            Some(_) => {}
        }
        // The pods last: whoever came in between has no report in the list, and is waited for.
        let what = format!("list Leases in {namespace}");
        let reports = self.ask(&what, async || convergence::reports(&self.client, namespace).await).await?;
        let what = format!("list pods in {namespace}");
        let pods = self.ask(&what, async || status::list_pods(&self.client, namespace, PODS).await).await?;
        if pods.is_empty() {
            bail!(
                "there is no pod of Nodegate in the namespace {namespace} (with the label {PODS}): say where it is with --nodegate-namespace"
            );
        }
        Ok(convergence::progress(pods.values(), &reports, target))
    }

    async fn read(&self) -> anyhow::Result<Option<Ingress>> {
        let IngressName { namespace, name } = &self.ingress;
        let ingresses = Api::<Ingress>::namespaced(self.client.clone(), namespace);
        self.ask(&format!("get Ingress {namespace}/{name}"), async || ingresses.get_opt(name).await).await
    }

    /// Asks until there is an answer, or no time left. A refusal is one.
    async fn ask<T>(&self, what: &str, request: impl AsyncFn() -> kube::Result<T>) -> anyhow::Result<T> {
        let mut said = String::new();
        loop {
            let patience = (Instant::now() + WAIT_REQUEST_TIMEOUT).min(self.deadline);
            let error = match time::timeout_at(patience, request()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Error::Api(status))) if matches!(status.code, 401 | 403) => {
                    bail!("not allowed to {what}: {}; docs/wait.md has a role with the rights that this needs", status.message)
                }
                Ok(Err(error)) => source::reason(&error),
                Err(_) => "no answer in time".to_owned(),
            };
            if Instant::now() + WAIT_POLL > self.deadline {
                bail!("can't {what}, after {}: {error}", Span(self.timeout));
            }
            if error != said {
                eprintln!("can't {what}: {error}; trying again");
                said = error;
            }
            time::sleep(WAIT_POLL).await;
        }
    }

    /// An error where it is held back.
    fn is_held(&self, progress: &Progress) -> anyhow::Result<()> {
        let IngressName { namespace, name } = &self.ingress;
        let describe = format!("`kubectl describe ingress {name} --namespace {namespace}`");
        if let Some(nodes) = nodes(progress, Lag::Held) {
            bail!(
                "Ingress {namespace}/{name} isn't in force on {nodes} as it is now, because of what is wrong with it; the version before it, if there was one, \
                 stays: {describe} says what to mend"
            );
        }
        if let Some(nodes) = nodes(progress, Lag::PerhapsHeld) {
            bail!(
                "so many Ingresses aren't in force on {nodes} as they are now that nobody can tell whether {namespace}/{name} is: {describe} says whether anything \
                 is wrong with it"
            );
        }
        Ok(())
    }
}

/// Whether waiting is in vain.
fn is_hopeless(progress: &Progress, target: &Target) -> anyhow::Result<()> {
    let namespace = &target.namespace;
    let nodes = |wanted: Lag| nodes(progress, wanted);
    if let Some(nodes) = nodes(Lag::Unnumbered) {
        bail!("the resourceVersions of this cluster are no numbers on {nodes}: nodes can't be compared by them");
    }
    if progress.nodes > 0
        && progress.lagging.len() == progress.nodes
        && let Some(nodes) = nodes(Lag::Unwatched).filter(|_| progress.lagging.values().all(|lag| *lag == Lag::Unwatched))
    {
        bail!("Nodegate doesn't watch the namespace {namespace} on {nodes}: see its flag --watch-namespace");
    }
    Ok(())
}

/// The nodes that lag in this way.
fn nodes(progress: &Progress, wanted: Lag) -> Option<String> {
    named(progress.lagging.iter().filter(|(_, lag)| **lag == wanted).map(|(node, _)| node.as_str()))
}

/// How far it is, in one line.
fn state(progress: &Progress) -> String {
    if progress.nodes == 0 {
        return "no pod of Nodegate is Ready; waiting for one".to_owned();
    }
    let mut text = format!("{} of {} nodes serve it; waiting for ", progress.in_force(), progress.nodes);
    let kinds = [
        (Lag::Behind, ""),
        (Lag::Silent, " (no report: an older version of Nodegate, one without --pod-uid, or one that may not write Leases)"),
        (Lag::Unwatched, " (--watch-namespace leaves the Ingress's namespace out)"),
        (Lag::Unnumbered, " (its versions are no numbers)"),
        (Lag::PerhapsHeld, " (perhaps not in force)"),
        (Lag::Held, " (not in force)"),
    ];
    let mut first = true;
    for (kind, why) in kinds {
        if let Some(nodes) = nodes(progress, kind) {
            // Writing to a String can't fail.
            let _ = write!(text, "{}{nodes}{why}", if first { "" } else { "; " });
            first = false;
        }
    }
    text
}

/// Such as `n1, n2 and 7 more`; nothing for none.
fn named<'a>(nodes: impl Iterator<Item = &'a str>) -> Option<String> {
    let nodes: Vec<&str> = nodes.collect();
    let shown = nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match nodes.len() {
        0 => None,
        count if count > NAMED => Some(format!("{shown} and {} more", count - NAMED)),
        _ => Some(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(nodes: usize, lagging: &[(&str, Lag)]) -> Progress {
        Progress { nodes, lagging: lagging.iter().map(|(node, lag)| ((*node).to_owned(), *lag)).collect() }
    }

    #[test]
    fn the_state_names_who_lags_and_why() {
        let silent = "no report: an older version of Nodegate, one without --pod-uid, or one that may not write Leases";
        for (progress, expected) in [
            (progress(0, &[]), "no pod of Nodegate is Ready; waiting for one".to_owned()),
            (progress(3, &[("n3", Lag::Behind)]), "2 of 3 nodes serve it; waiting for n3".to_owned()),
            (
                progress(4, &[("n3", Lag::Silent), ("n1", Lag::Behind), ("n2", Lag::Behind)]),
                format!("1 of 4 nodes serve it; waiting for n1, n2; n3 ({silent})"),
            ),
        ] {
            assert_eq!(state(&progress), expected);
        }
    }

    #[test]
    fn many_nodes_are_counted() {
        let nodes: Vec<String> = (10..25).map(|number| format!("n{number}")).collect();
        let text = named(nodes.iter().map(String::as_str)).unwrap();
        assert_eq!(text, "n10, n11, n12, n13, n14, n15, n16, n17, n18, n19 and 5 more");
        assert_eq!(named(std::iter::empty()), None);
    }
}
