//! The cluster is set back to a backup: what was edited since is as it was then, though each of its versions is older than what Nodegate knows.

use anyhow::{Context, ensure};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    super::table::Row,
    control_plane::IN_FORCE_WITHIN,
    site::{Site, WEB},
    watch::{Span, Watch},
};
use crate::{
    backup::{Backup, restart_followers, version},
    sample::{ingress, list},
    wait::{PATIENCE, eventually},
};

/// Edits that are forgotten, the last ones of one Ingress: so many versions that the cluster is still behind them when all is over.
const EDITS: usize = 500;
/// What is served then, and what is after the edits; neither is what is served all the time.
const THEN: [&str; 2] = ["changed.example", "deleted.example"];
const SINCE: [&str; 2] = ["changed-since.example", "new.example"];

pub async fn etcd_is_set_back(site: &Site<'_>) -> anyhow::Result<Row> {
    let cluster = site.cluster;
    let [changed, deleted] = THEN;
    let of = |name: &str, host: &str| ingress(WEB.namespace, name, host, WEB.name);
    let watch = Watch::begin(site).await?;
    let load = &watch.load;
    cluster.apply(&list(&[of("changed", changed), of("deleted", deleted)]))?;
    are_served(site, &THEN, &SINCE).await?;
    let backup = Backup::take(cluster).await?;
    let [changed, new] = SINCE;
    cluster.apply(&list(&[of("changed", changed), of("new", new)]))?;
    cluster.kubectl(&["delete", "ingress", "deleted", "--namespace=failures"])?;
    edit(site, "new").await?;
    are_served(site, &SINCE, &THEN).await?;
    let (then, newest) = (backup.version, version(cluster).await?);
    let began = load.now();
    backup.put_back(cluster).await?;
    let back = load.now();
    are_served(site, &THEN, &SINCE).await?;
    let in_force = load.now().saturating_sub(back);
    // By then each node has met every pod.
    load.ended(60).await?;
    let ended = load.now();
    let edited = load.now();
    cluster.apply(&list(&[of("after", "after.example")]))?;
    cluster.serves("after.example").await?;
    let edited = load.now().saturating_sub(edited);
    let now = version(cluster).await?;
    restart_followers(cluster).await?;
    let seen = watch.end(Span { began, ended }).await?;
    cluster.kubectl(&["delete", "ingress", "changed", "deleted", "after", "--namespace=failures"])?;
    ensure!(
        then + u64::try_from(EDITS)? <= newest && now < newest,
        "versions went from {then} to {newest}, and were at {now} when all was over"
    );
    seen.cuts(&[], began)?;
    seen.spares(&[1, 2, 3])?;
    ensure!(in_force < IN_FORCE_WITHIN, "the older state was in force {in_force:?} after the API server was back");
    ensure!(edited < IN_FORCE_WITHIN, "an edit after that was in force after {edited:?}");
    Ok(Row {
        event: "etcd set back to a backup, so that resource versions go backwards",
        seen: format!(
            "nothing; within {} s of its return each node serves what the backup has, and nothing that is younger: Ingresses that were new are gone, deleted ones are there again, and \
             later edits are in force as ever",
            IN_FORCE_WITHIN.as_secs()
        ),
        measured: format!(
            "{}; the version went back from {newest} to {then} or a little more; stopped for {:.0} s; the older state was in force on every node {:.1} s after that, and a later edit, of \
             version {now} at most, {:.1} s after it was made",
            seen.account(&[1, 2, 3]),
            back.saturating_sub(began).as_secs_f32(),
            in_force.as_secs_f32(),
            edited.as_secs_f32()
        ),
    })
}

/// Waits until these hosts are served on every node, and those aren't.
async fn are_served(site: &Site<'_>, hosts: &[&str], not: &[&str]) -> anyhow::Result<()> {
    for host in hosts {
        site.cluster.serves(host).await?;
    }
    for (host, target) in not.iter().flat_map(|host| site.targets.iter().map(move |target| (host, *target))) {
        eventually(&format!("{host} isn't served on {target}"), PATIENCE, async || {
            let answer = site.get(target, host)?;
            ensure!(answer.status == 404, "answered with {answer}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Writes one Ingress again and again.
async fn edit(site: &Site<'_>, name: &str) -> anyhow::Result<()> {
    let ingresses: Api<Ingress> = Api::namespaced(site.cluster.client(), WEB.namespace);
    for number in 0..EDITS {
        let patch = json!({ "metadata": { "labels": { "edit": number.to_string() } } });
        ingresses.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.with_context(|| format!("edit {number} of {name}"))?;
    }
    Ok(())
}
