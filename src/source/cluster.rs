//! The `cluster` source: one watch for each kind and namespace, whose raw events go to the stores as they come. A lost API server changes nothing.

mod ends;
mod feed;
mod token;
mod trouble;

use std::{convert::Infallible, fmt::Debug, path::PathBuf, sync::Arc};

use futures_util::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
};
use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    client::{AuthError, ClientBuilder},
    core::DeserializeGuard,
    runtime::watcher::{self, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{task::JoinSet, time::Instant};
use tower::util::MapRequestLayer;

use crate::{
    compile::{Diagnostic, Objects},
    config::limits::{API_CONNECT_TIMEOUT, API_PAGE_SIZE, API_READ_TIMEOUT, API_WATCH_SECONDS},
    source::{
        SourceError,
        cluster::{
            ends::Ends,
            feed::{Feed, version},
            token::TokenFile,
            trouble::{Trouble, is_refusal},
        },
        object::{Kind, Stored},
        saved::Origin,
        shared::Shared,
        stores::{Change, List, Stores},
    },
};

/// What is always read from a cluster. Not Secrets, where there is no TLS to serve: an account that may list them holds every key of the cluster, wherever
/// it is stolen.
const WATCHED: [Kind; 4] = [Kind::Ingress, Kind::IngressClass, Kind::Service, Kind::EndpointSlice];
pub use trouble::reason;

/// A client, and what to watch with it.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    namespaces: Vec<String>,
    secrets: bool,
    origin: Origin,
}

/// Reads the cluster once, without watching it: what `nodegate check --cluster` works on, which needs no right to read Secrets. Errors aren't waited out.
///
/// # Errors
/// No credentials, an API server that can't be reached, or one that refuses a list.
pub async fn list_cluster(config: Option<Box<Config>>, namespaces: Vec<String>) -> Result<(Objects, Vec<Diagnostic>), SourceError> {
    let cluster = Cluster::open(config, namespaces, false).await?;
    let mut stores = Stores::new(cluster.lists());
    for list in cluster.lists() {
        stores.apply(cluster.list(list).await?);
    }
    let mut diagnostics: Vec<_> = stores.diagnostics().cloned().collect();
    diagnostics.sort();
    Ok((stores.objects(), diagnostics))
}

/// A client for the API server, which isn't spoken to yet. `None`: this pod's service account, else `KUBECONFIG`, else the default kubeconfig.
///
/// # Errors
/// No credentials, or none that can be used.
pub async fn connect(config: Option<Box<Config>>) -> Result<Client, SourceError> {
    client(configuration(config).await?)
}

async fn configuration(config: Option<Box<Config>>) -> Result<Config, SourceError> {
    let mut config = match config {
        Some(config) => *config,
        None => discover().await?,
    };
    config.connect_timeout = Some(API_CONNECT_TIMEOUT);
    // Without it a request on a connection that died silently waits for TCP to give up, which takes a quarter of an hour.
    config.read_timeout = Some(API_READ_TIMEOUT);
    config.reset_reader_on_write = true;
    // Whoever asks waits and tries again, and says so.
    config.default_retry = false;
    Ok(config)
}

fn client(mut config: Config) -> Result<Client, SourceError> {
    // One that is given as it is goes before a file.
    let file = config.auth_info.token_file.take_if(|_| config.auth_info.token.is_none()).map(PathBuf::from);
    let refused = |error| SourceError::Client(Box::new(error));
    let builder = ClientBuilder::try_from(config).map_err(refused)?.with_layer(&Ends);
    let Some(path) = file else { return Ok(builder.build()) };
    let file = TokenFile::open(path.clone()).map_err(|error| refused(kube::Error::Auth(AuthError::ReadTokenFile(error, path))))?;
    let file = Arc::new(file);
    Ok(builder.with_layer(&MapRequestLayer::new(move |request| file.authorize(request))).build())
}

impl Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespaces", &self.namespaces).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Finds the way to the API server. It isn't spoken to yet.
    pub(super) async fn open(config: Option<Box<Config>>, namespaces: Vec<String>, secrets: bool) -> Result<Self, SourceError> {
        let config = configuration(config).await?;
        let origin = Origin::of(&config.cluster_url, config.root_cert.as_deref());
        Ok(Self { client: client(config)?, namespaces, secrets, origin })
    }

    /// Which cluster it is.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The lists that this source delivers.
    pub(super) fn lists(&self) -> Vec<List> {
        lists(&self.namespaces, self.secrets)
    }

    /// Keeps the stores up to date until the future is dropped.
    pub(super) async fn run(self, shared: &Arc<Shared>) -> Result<Infallible, SourceError> {
        let mut watches = JoinSet::new();
        for list in self.lists() {
            let (cluster, shared) = (self.clone(), Arc::clone(shared));
            watches.spawn(async move { cluster.watch(list, &shared).await });
        }
        // A watch never ends, other than by a panic.
        watches.join_next().await;
        Err(SourceError::Stopped("watching the cluster"))
    }

    async fn watch(&self, list: List, shared: &Shared) {
        match list.kind {
            Kind::Ingress => watch(self.namespaced::<Ingress>(&list), list, shared).await,
            Kind::IngressClass => watch(Api::<DeserializeGuard<IngressClass>>::all(self.client.clone()), list, shared).await,
            Kind::Service => watch(self.namespaced::<Service>(&list), list, shared).await,
            Kind::EndpointSlice => watch(self.namespaced::<EndpointSlice>(&list), list, shared).await,
            Kind::Secret => watch(self.namespaced::<Secret>(&list), list, shared).await,
        }
    }

    async fn list(&self, wanted: List) -> Result<Change, SourceError> {
        match wanted.kind {
            Kind::Ingress => list(self.namespaced::<Ingress>(&wanted), wanted).await,
            Kind::IngressClass => list(Api::<DeserializeGuard<IngressClass>>::all(self.client.clone()), wanted).await,
            Kind::Service => list(self.namespaced::<Service>(&wanted), wanted).await,
            Kind::EndpointSlice => list(self.namespaced::<EndpointSlice>(&wanted), wanted).await,
            Kind::Secret => list(self.namespaced::<Secret>(&wanted), wanted).await,
        }
    }

    fn namespaced<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, list: &List) -> Api<DeserializeGuard<K>> {
        match &list.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// What is read of a cluster.
pub(super) fn lists(namespaces: &[String], secrets: bool) -> Vec<List> {
    let in_namespaces = |kind: Kind| -> Vec<List> {
        if namespaces.is_empty() || !kind.namespaced() {
            return vec![List { kind, namespace: None }];
        }
        namespaces.iter().map(|namespace| List { kind, namespace: Some(namespace.as_str().into()) }).collect()
    };
    WATCHED.into_iter().chain(secrets.then_some(Kind::Secret)).flat_map(in_namespaces).collect()
}

/// This pod's service account, else `KUBECONFIG` or the default kubeconfig.
async fn discover() -> Result<Config, SourceError> {
    let in_cluster = match Config::incluster() {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    Config::from_kubeconfig(&kube::config::KubeConfigOptions::default())
        .await
        .map_err(|error| SourceError::NoCluster(format!("not in a pod ({in_cluster}), and no kubeconfig ({error})")))
}

/// What a kind must be to be watched; one name for it.
trait Watched: Resource<DynamicType = ()> + Stored + Clone + Debug + DeserializeOwned + Send + 'static {}
impl<K: Resource<DynamicType = ()> + Stored + Clone + Debug + DeserializeOwned + Send + 'static> Watched for K {}

/// Follows one list for ever, through every failure, after which everything is listed anew ([`ends`]).
async fn watch<K: Watched>(api: Api<DeserializeGuard<K>>, list: List, shared: &Shared) {
    let what = list.to_string();
    let mut feed = Feed::new(list);
    let mut trouble = Trouble::default();
    let mut config = watch_config(feed.list().kind).streaming_lists();
    'anew: loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        let error = loop {
            match events.next().await {
                Some(Ok(event)) => {
                    let arrived = Instant::now();
                    if let Some(change) = feed.take(event) {
                        match &change {
                            Change::ReplaceAll { list, .. } => {
                                trouble.listed(&what);
                                shared.set_refused(list, false);
                            }
                            Change::Upsert(_) | Change::Delete(_) => trouble.over(&what),
                        }
                        shared.apply([change], None, arrived);
                    }
                }
                Some(Err(error)) if config.initial_list_strategy == watcher::InitialListStrategy::StreamingList && unsupported(&error) => {
                    break error;
                }
                Some(Err(error)) => {
                    shared.set_refused(feed.list(), is_refusal(&error));
                    tokio::time::sleep(trouble.another(&what, &error)).await;
                    if trouble.has_listed() {
                        // In pages, which are of this very moment: a stream begins with what one of several API servers remembers, which may be older than what
                        // we know.
                        config = watch_config(feed.list().kind);
                    }
                    // Not from where it was: what is behind the API server by now may be a copy of some time before, to which nothing has happened since.
                    continue 'anew;
                }
                None => break watcher::Error::NoResourceVersion,
            }
        };
        tracing::info!(list = what, %error, "the API server has no streaming lists; reading pages instead");
        config = watch_config(feed.list().kind);
    }
}

/// All pages of one list.
async fn list<K: Watched>(api: Api<DeserializeGuard<K>>, list: List) -> Result<Change, SourceError> {
    let mut params = ListParams::default().limit(API_PAGE_SIZE);
    params.field_selector = field_selector(list.kind).map(Into::into);
    let mut versions = Vec::new();
    loop {
        let failed = |cause| SourceError::List { what: list.to_string(), cause: Box::new(cause) };
        let page = api.list(&params).await.map_err(failed)?;
        versions.extend(page.items.into_iter().map(version));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(Change::ReplaceAll { list, versions });
        }
    }
}

fn watch_config(kind: Kind) -> watcher::Config {
    let config = watcher::Config::default().timeout(API_WATCH_SECONDS).page_size(API_PAGE_SIZE);
    field_selector(kind).map_or(config.clone(), |selector| config.fields(selector))
}

/// Secrets whose type says that they hold neither certificates nor authorities are nobody's business here: they aren't even fetched.
const SECRETS: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=bootstrap.kubernetes.io/token,\
                       type!=kubernetes.io/dockerconfigjson,type!=kubernetes.io/dockercfg,type!=kubernetes.io/basic-auth,type!=kubernetes.io/ssh-auth";

fn field_selector(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Secret => Some(SECRETS),
        Kind::Ingress | Kind::IngressClass | Kind::Service | Kind::EndpointSlice => None,
    }
}

/// Whether an API server refused `sendInitialEvents`, which servers before 1.32 (or with the feature `WatchList` off) do.
fn unsupported(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => matches!(status.code, 400 | 422),
        watcher::Error::WatchError(status) => matches!(status.code, 400 | 422),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
