//! The backend is updated, again and again: no request fails.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};

use super::{
    super::table::Row,
    Extent,
    site::{NAMESPACE, Site, WEB},
};
use crate::wait::PATIENCE;

/// Requests before the first update, and again behind the last.
const AROUND: u32 = 60;

pub async fn backend_is_updated(site: &Site<'_>, extent: &Extent) -> anyhow::Result<Row> {
    let load = site.load(extent.rate);
    load.ended(AROUND).await?;
    let mut updates = 0;
    while updates < extent.updates || load.so_far(|tally| tally.sent) < extent.requests {
        site.cluster.rollout(NAMESPACE, "deployment/web", &["restart"])?;
        site.cluster.rolled_out(NAMESPACE, WEB.name, PATIENCE).await?;
        updates += 1;
    }
    site.is_whole().await?;
    load.ended(AROUND).await?;
    let tally = load.stop();
    tally.all_succeeded().with_context(|| format!("during {updates} updates of the backend"))?;
    // Before the first update there was one, too.
    let answered: BTreeSet<_> = tally.by_backend.keys().filter_map(|pod| pod.rsplit_once('-')).map(|(revision, _)| revision).collect();
    ensure!(answered.len() > updates, "{updates} updates, and pods of these revisions answered: {answered:?}");
    Ok(Row {
        event: "rolling update of the backend, again and again",
        seen: "nothing".to_owned(),
        measured: format!(
            "{updates} updates, {} pods answered; {} of {} requests failed, the slowest took {:.1} s",
            tally.by_backend.len(),
            tally.failed.len(),
            tally.sent,
            tally.slowest.as_secs_f32()
        ),
    })
}
