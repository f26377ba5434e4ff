//! What others have reported, read from the API server.

use std::collections::HashMap;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::ListParams};

use super::report::{LABEL, PodReport};

/// Reports by the uid of their pod.
pub type Seen = HashMap<String, PodReport>;

/// The reports in a namespace. Of the Leases only the metadata is asked for, which has all of it.
///
/// # Errors
/// An API server that can't be reached, or refuses.
pub async fn reports(client: &Client, namespace: &str) -> kube::Result<Seen> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace).list_metadata(&ListParams::default().labels(LABEL)).await?;
    Ok(leases.items.iter().filter_map(|lease| PodReport::read(&lease.metadata)).collect())
}
