//! The objects in force on this node's disk: written after they have changed, and served at a start at which the API server doesn't answer.

mod copy;
mod disk;
mod format;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};

pub(super) use self::{copy::Copy, format::Origin};
use self::{
    disk::Disk,
    format::{Contents, Unusable},
};
use crate::{
    compile::{Diagnostic, Severity, Subject, secrets_named},
    config::{
        StateDir,
        limits::{STATE_BYTES_PER_SECOND, STATE_INTERVAL, STATE_INTERVAL_MAX, STATE_LOOK, STATE_REST, STATE_RETRY},
    },
    source::{
        Report, Served, SourceError, State,
        object::Object,
        shared::{FallBack, Shared},
        stores::{Change, List, Stores, Version},
    },
};

/// The copy on disk, as one process has it.
#[derive(Debug)]
pub(super) struct Saved {
    disk: Disk,
    settings: StateDir,
    origin: Origin,
    /// What the source delivers.
    lists: Vec<List>,
    /// The Secret whose certificate hosts get that have none of their own, by namespace and name.
    default_certificate: Option<(String, String)>,
}

/// What can be wrong with it.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("can't be read: {0}")]
    Read(#[source] io::Error),
    #[error("can't be written: {0}")]
    Write(#[source] io::Error),
    #[error("{unusable}; {fate}")]
    Unusable { unusable: Unusable, fate: &'static str },
    #[error("has made this Nodegate stumble")]
    Panicked,
}

/// What is wrong with it now: with what was found, until there is another one, and with the last try to write.
#[derive(Debug, Default)]
struct Findings {
    found: Option<Diagnostic>,
    writing: Option<Diagnostic>,
}

impl Saved {
    pub(super) fn new(settings: StateDir, origin: Origin, lists: Vec<List>, default_certificate: Option<(String, String)>) -> Self {
        Self { disk: Disk::new(settings.path.clone()), settings, origin, lists, default_certificate }
    }

    /// Brings what is on disk into `shared`, where it waits; then keeps that up to date for ever. Whatever goes wrong is said, and costs nothing else.
    pub(super) async fn run(self, shared: &Shared, report: &watch::Sender<Report>) -> Result<Infallible, SourceError> {
        let begun = Instant::now();
        let this = Arc::new(self);
        let findings = Findings { found: this.load(shared).await, writing: None };
        let mut news = report.subscribe();
        this.fall_back(shared, &mut news, begun + this.settings.api_timeout).await;
        this.keep(shared, report, news, findings).await
    }

    /// What is wrong with it, which is said here, too: without an API server there may be no rebuild to say it.
    async fn load(self: &Arc<Self>, shared: &Shared) -> Option<Diagnostic> {
        let path = self.settings.path.display();
        let this = Arc::clone(self);
        match blocking(move || this.read()).await.unwrap_or(Err(Trouble::Panicked)) {
            Ok(None) => {
                tracing::info!(%path, "no state on disk yet");
                None
            }
            Ok(Some((stores, written))) => {
                tracing::info!(%path, age_s = age(written), "state read from disk");
                shared.restore(stores, written);
                None
            }
            Err(trouble) => {
                let finding = self.finding(&trouble);
                tracing::warn!(%path, code = finding.code, "{finding}");
                shared.find(vec![finding.clone()]);
                Some(finding)
            }
        }
    }

    fn read(&self) -> Result<Option<(Stores, SystemTime)>, Trouble> {
        self.disk.clean();
        let bytes = self.disk.read().map_err(Trouble::Read)?;
        if !self.settings.secrets {
            // Keys are kept for as long as somebody wants them to be, and no longer: what was set aside may have some, whatever it is.
            self.disk.remove(false).map_err(Trouble::Write)?;
        }
        let Some(bytes) = bytes else { return Ok(None) };
        let has_keys = !self.settings.secrets && format::may_hold_secrets(&bytes);
        match format::decode(&bytes, Some(&self.origin), &self.lists) {
            Ok(Contents { mut objects, written }) => {
                if has_keys {
                    objects = self.kept(objects, &[]);
                    let parts = format::encode(&objects, &self.origin, &self.lists, written).map_err(Trouble::Write)?;
                    self.disk.write(&parts.each_ref().map(Vec::as_slice)).map_err(Trouble::Write)?;
                }
                Ok(Some((stores(objects, &self.lists), written)))
            }
            Err(unusable) if has_keys => {
                self.disk.remove(true).map_err(Trouble::Write)?;
                Err(Trouble::Unusable { unusable, fate: "it held Secrets, and was removed" })
            }
            Err(unusable) => Err(Trouble::Unusable { unusable, fate: "it is set aside once there is another one" }),
        }
    }

    /// Has it served, if the API server hasn't answered in time, and doesn't refuse to.
    async fn fall_back(&self, shared: &Shared, news: &mut watch::Receiver<Report>, mut until: Instant) {
        let mut told = false;
        while timeout_at(until, news.wait_for(|report| report.ready)).await.is_err() {
            match shared.fall_back() {
                FallBack::Needless => return,
                FallBack::InForce(written) => {
                    return tracing::warn!(age_s = age(written), "the API server doesn't answer: serving what was on disk until it does");
                }
                FallBack::Nothing => {
                    return tracing::warn!("the API server doesn't answer, and there is nothing on disk to serve until it does");
                }
                FallBack::Refused if !std::mem::replace(&mut told, true) => {
                    tracing::error!(
                        "the API server answers, and refuses what Nodegate has to read: what is on disk isn't served in its place"
                    );
                }
                FallBack::Refused => {}
            }
            until = Instant::now() + STATE_LOOK;
        }
    }

    /// Writes each table's objects, at a bounded rate.
    async fn keep(
        self: Arc<Self>,
        shared: &Shared,
        report: &watch::Sender<Report>,
        mut news: watch::Receiver<Report>,
        mut findings: Findings,
    ) -> Result<Infallible, SourceError> {
        let mut saved = None;
        loop {
            let is_new = |report: &Report| report.is_live() && Some(report.generation) != saved;
            let (generation, ingresses) = match news.wait_for(is_new).await {
                Ok(report) => (report.generation, Arc::clone(&report.ingresses)),
                Err(_) => return Err(SourceError::Stopped("the rebuild")),
            };
            let begun = Instant::now();
            let (this, objects, replaces) = (Arc::clone(&self), shared.in_force(), findings.found.is_some());
            let written = blocking(move || this.write(objects, &ingresses, replaces)).await.unwrap_or(Err(Trouble::Panicked));
            let before = std::mem::take(&mut findings);
            let rest = match written {
                Ok(bytes) => {
                    saved = Some(generation);
                    tell(report, |state| state.saved = Some(SystemTime::now()));
                    let by_size = Duration::from_secs((bytes / STATE_BYTES_PER_SECOND) as u64);
                    STATE_INTERVAL.max(begun.elapsed() * STATE_REST).max(by_size).min(STATE_INTERVAL_MAX)
                }
                Err(trouble) => {
                    tell(report, |state| state.errors += 1);
                    findings = Findings { found: before.found.clone(), writing: Some(self.finding(&trouble)) };
                    STATE_RETRY
                }
            };
            if findings.all() != before.all() {
                shared.find(findings.all());
            }
            sleep(rest).await;
        }
    }

    /// Returns how many bytes it had. `replaces`: what is there can't be used, and somebody may want to know why.
    fn write(&self, mut objects: Vec<Object>, ingresses: &[Served], replaces: bool) -> Result<usize, Trouble> {
        as_served(&mut objects, ingresses);
        let kept = self.kept(objects, ingresses);
        let [header, body] = format::encode(&kept, &self.origin, &self.lists, SystemTime::now()).map_err(Trouble::Write)?;
        if replaces && let Ok(aside) = self.disk.set_aside() {
            tracing::info!(path = %aside.display(), "what couldn't be used is kept here");
        }
        self.disk.write(&[&header, &body]).map_err(Trouble::Write)?;
        Ok(header.len() + body.len())
    }

    /// Of Secrets, those that the table is made of, and only where they are wanted.
    fn kept(&self, mut objects: Vec<Object>, ingresses: &[Served]) -> Vec<Object> {
        let mut wanted: HashSet<(&str, &str)> = HashSet::new();
        if self.settings.secrets {
            for served in ingresses.iter().filter(|served| served.accepted) {
                let object = served.in_force();
                let (namespace, _) = name(&object.metadata);
                wanted.extend(secrets_named(object).map(|name| (namespace, name)));
            }
            wanted.extend(self.default_certificate.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str())));
        }
        objects.retain(|object| match object {
            Object::Secret(secret) => wanted.contains(&name(&secret.metadata)),
            Object::Ingress(_) | Object::IngressClass(_) | Object::Service(_) | Object::EndpointSlice(_) => true,
        });
        objects
    }

    fn finding(&self, trouble: &Trouble) -> Diagnostic {
        let subject = Subject::File { path: self.settings.path.to_string_lossy().into(), document: 0, line: 0 };
        let (code, help) = match trouble {
            Trouble::Read(_) | Trouble::Write(_) | Trouble::Panicked => (
                "state_not_kept",
                "what is served isn't affected; a start without an API server would be: the directory has to be this user's, and to have room",
            ),
            Trouble::Unusable { .. } => ("state_unusable", "another one is written as soon as the API server has answered"),
        };
        let message = format!("the copy of the cluster's objects {trouble}");
        Diagnostic { severity: Severity::Warning, code, subject, message, help: help.into() }
    }
}

/// What a process that watches these lists would have read of them from the API server.
fn stores(objects: Vec<Object>, lists: &[List]) -> Stores {
    let mut stores = Stores::new([]);
    for object in objects {
        let key = object.key();
        if lists.iter().any(|list| list.covers(&key)) {
            stores.apply(Change::Upsert(Version::Decoded(object)));
        }
    }
    stores
}

/// Has each Ingress in the version that is in force. One that a table has still to be made of will be written after that.
fn as_served(objects: &mut [Object], ingresses: &[Served]) {
    let in_force: HashMap<_, _> = ingresses.iter().map(|served| (name(&served.object.metadata), served.in_force())).collect();
    for object in objects {
        if let Object::Ingress(ingress) = object
            && let Some(in_force) = in_force.get(&name(&ingress.metadata))
        {
            *ingress = Arc::clone(in_force);
        }
    }
}

/// Namespace and name.
fn name(metadata: &ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

impl Findings {
    fn all(&self) -> Vec<Diagnostic> {
        self.found.iter().chain(&self.writing).cloned().collect()
    }
}

/// For who looks: nobody has to do anything about it.
fn tell(report: &watch::Sender<Report>, change: impl FnOnce(&mut State)) {
    report.send_if_modified(|report| {
        change(&mut report.state);
        false
    });
}

/// On a thread that may wait for a disk. `None`: it has panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}

/// In seconds; 0 of something from the future, since clocks are set back.
fn age(written: SystemTime) -> u64 {
    SystemTime::now().duration_since(written).unwrap_or(Duration::ZERO).as_secs()
}
