//! What the shipped roles grant, and what of it was asked for: the API server's audit log tells.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::{Api, api::ListParams};
use serde_json::Value;

use crate::{
    cluster::{Cluster, LOGS},
    install::NAMESPACE,
    wait::{PATIENCE, eventually},
};

/// Whose requests count.
const ACCOUNT: &str = "system:serviceaccount:nodegate-system:nodegate";
const FORBIDDEN: u16 = 403;

/// Verb, API group, resource with its subresource.
type Right = (String, String, String);

/// Those of Nodegate's account since a point in time.
#[derive(Debug)]
pub struct Requests {
    /// Where in the log it begins.
    from: u64,
}

impl Requests {
    pub fn from_now() -> anyhow::Result<Self> {
        Ok(Self { from: log()?.metadata()?.len() })
    }

    /// Waits until each right that the roles in the cluster grant was used. How many there are.
    pub async fn use_every_right(&self, cluster: &Cluster) -> anyhow::Result<usize> {
        let granted = granted(cluster).await?;
        ensure!(!granted.is_empty(), "no role is Nodegate's by its label");
        // The Lease is renewed from time to time.
        eventually("every right that is granted is used", PATIENCE, async || {
            let used: BTreeSet<Right> = self.all()?.iter().map(right).collect();
            let spare: Vec<&Right> = granted.difference(&used).collect();
            ensure!(spare.is_empty(), "never used: {spare:?}");
            Ok(())
        })
        .await?;
        Ok(granted.len())
    }

    /// Fails with those that the API server refused.
    pub fn none_was_refused(&self) -> anyhow::Result<()> {
        let all = self.all()?;
        let refused: Vec<&Value> = all.iter().filter(|request| request["responseStatus"]["code"] == FORBIDDEN).collect();
        ensure!(refused.is_empty(), "{} of {} requests were refused, the first of them: {:#}", refused.len(), all.len(), refused[0]);
        println!("install: {} requests to the API server, none refused", all.len());
        Ok(())
    }

    fn all(&self) -> anyhow::Result<Vec<Value>> {
        let mut log = log()?;
        log.seek(SeekFrom::Start(self.from))?;
        let mut requests = Vec::new();
        for line in BufReader::new(log).lines() {
            // The last line may still be on its way.
            let Ok(request) = serde_json::from_str::<Value>(&line?) else { break };
            if request["user"]["username"] == ACCOUNT {
                requests.push(request);
            }
        }
        Ok(requests)
    }
}

fn log() -> anyhow::Result<File> {
    File::open(Path::new(LOGS).join("audit.log")).context("the API server's audit log")
}

async fn granted(cluster: &Cluster) -> anyhow::Result<BTreeSet<Right>> {
    let ours = ListParams::default().labels("app.kubernetes.io/name=nodegate");
    let everywhere = Api::<ClusterRole>::all(cluster.client()).list(&ours).await?;
    let in_namespace = Api::<Role>::namespaced(cluster.client(), NAMESPACE).list(&ours).await?;
    let rules = everywhere.into_iter().filter_map(|role| role.rules).chain(in_namespace.into_iter().filter_map(|role| role.rules));
    Ok(rules.flatten().flat_map(|rule| rights(&rule)).collect())
}

fn rights(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            rights.extend(rule.verbs.iter().map(|verb| (verb.clone(), group.clone(), resource.clone())));
        }
    }
    rights
}

fn right(request: &Value) -> Right {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &request["objectRef"];
    let part = object["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
    (word(&request["verb"]), word(&object["apiGroup"]), word(&object["resource"]) + &part)
}
