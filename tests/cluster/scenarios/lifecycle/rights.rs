//! What the shipped roles grant, and what of it was asked for: the API server's audit log tells.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::{Api, api::ListParams};
use serde_json::Value;

use super::right::{self, Right};
use crate::{
    cluster::{Cluster, LOGS},
    install::NAMESPACE,
    wait::{PATIENCE, eventually},
};

/// Whose requests count.
const ACCOUNT: &str = "system:serviceaccount:nodegate-system:nodegate";
const FORBIDDEN: u16 = 403;

/// What the roles in the cluster grant while Nodegate is installed. All overlays have the same ones.
#[derive(Debug)]
pub struct Roles {
    everywhere: Vec<PolicyRule>,
    /// In Nodegate's own namespace alone.
    at_home: Vec<PolicyRule>,
}

/// Those of Nodegate's account since a point in time.
#[derive(Debug)]
pub struct Requests {
    /// Where in the log it begins.
    from: u64,
}

impl Roles {
    pub async fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let ours = ListParams::default().labels("app.kubernetes.io/name=nodegate");
        let everywhere = Api::<ClusterRole>::all(cluster.client()).list(&ours).await?;
        let at_home = Api::<Role>::namespaced(cluster.client(), NAMESPACE).list(&ours).await?;
        let everywhere: Vec<_> = everywhere.into_iter().filter_map(|role| role.rules).flatten().collect();
        let at_home: Vec<_> = at_home.into_iter().filter_map(|role| role.rules).flatten().collect();
        ensure!(!everywhere.is_empty() && !at_home.is_empty(), "no role is Nodegate's by its label");
        Ok(Self { everywhere, at_home })
    }

    fn rights(&self) -> BTreeSet<Right> {
        self.everywhere.iter().chain(&self.at_home).flat_map(right::granted).collect()
    }

    fn grant(&self, request: &Value) -> bool {
        let (wanted, object) = (right::used(request), &request["objectRef"]);
        let at_home = if object["namespace"] == NAMESPACE { self.at_home.as_slice() } else { &[] };
        self.everywhere.iter().chain(at_home).filter(|rule| right::granted(rule).contains(&wanted)).any(|rule| {
            let names = rule.resource_names.as_deref().unwrap_or_default();
            names.is_empty() || names.iter().any(|name| object["name"] == **name)
        })
    }
}

impl Requests {
    /// Since the cluster is up: of every installation there was.
    pub fn ever() -> Self {
        Self { from: 0 }
    }

    pub fn from_now() -> anyhow::Result<Self> {
        Ok(Self { from: log()?.metadata()?.len() })
    }

    /// Waits until each right that the roles grant was used. How many there are.
    pub async fn use_every_right(&self, roles: &Roles) -> anyhow::Result<usize> {
        let granted = roles.rights();
        // The Lease is renewed from time to time.
        eventually("every right that is granted is used", PATIENCE, async || {
            let used: BTreeSet<Right> = self.all()?.iter().map(right::used).collect();
            let spare: Vec<&Right> = granted.difference(&used).collect();
            ensure!(spare.is_empty(), "never used: {spare:?}");
            Ok(())
        })
        .await?;
        Ok(granted.len())
    }

    /// Fails with those that the API server refused.
    pub fn none_was_refused(&self) -> anyhow::Result<()> {
        self.none_is_wrong("refused", is_refused)
    }

    /// Fails with those that were refused and that the roles don't grant. What they do grant is refused, too, where the API server has just started, and
    /// where the roles went before the pods.
    pub fn none_exceeded(&self, roles: &Roles) -> anyhow::Result<()> {
        self.none_is_wrong("beyond the roles", |request| is_refused(request) && !roles.grant(request))
    }

    fn none_is_wrong(&self, what: &str, is_wrong: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let all = self.all()?;
        ensure!(!all.is_empty(), "the audit log has no request of {ACCOUNT}");
        let wrong: Vec<&Value> = all.iter().filter(|request| is_wrong(request)).collect();
        ensure!(wrong.is_empty(), "{} of {} requests were {what}, the first of them: {:#}", wrong.len(), all.len(), wrong[0]);
        println!("rights: {} requests to the API server, none of them {what}", all.len());
        Ok(())
    }

    fn all(&self) -> anyhow::Result<Vec<Value>> {
        let (mut log, mut text) = (log()?, String::new());
        log.seek(SeekFrom::Start(self.from))?;
        log.read_to_string(&mut text)?;
        // The last line may still be on its way.
        let lines = text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines();
        let requests = lines.map(|line| serde_json::from_str(line).with_context(|| format!("not JSON, in the audit log: {line}")));
        requests.filter(|request| request.as_ref().map_or(true, |request: &Value| request["user"]["username"] == ACCOUNT)).collect()
    }
}

fn is_refused(request: &Value) -> bool {
    request["responseStatus"]["code"] == FORBIDDEN
}

fn log() -> anyhow::Result<File> {
    File::open(Path::new(LOGS).join("audit.log")).context("the API server's audit log")
}
