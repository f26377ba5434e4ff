//! Where objects come from: the stores, the `cluster` and `file` sources that fill them, and the rebuild loop that empties them into the table.

mod cluster;
mod coverage;
mod file;
mod identity;
mod object;
mod rebuild;
mod report;
mod saved;
mod shared;
mod stores;

use std::{convert::Infallible, future::pending, path::PathBuf};

use tokio::{sync::watch, time::Instant};

pub use cluster::{connect, list_cluster, reason};
pub use coverage::{Coverage, Covers, NoCoverage, number as version_number};
pub use file::{LoadError, load};
pub use report::{CONFIG_TO_LIVE_BUCKETS, Identity, ObjectName, Report, Served, State};

use crate::{
    compile::Options,
    config::StateDir,
    source::{
        cluster::Cluster,
        file::Files,
        rebuild::Pace,
        saved::{Copy, Saved},
        shared::Shared,
        stores::Stores,
    },
    table::Publisher,
};

/// Where the configuration is to come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Files and directories, as `--manifests` names them.
    Files(Vec<PathBuf>),
    /// An API server.
    Cluster {
        /// How to reach it; `None`: this pod's service account, else `KUBECONFIG`, else the default kubeconfig.
        config: Option<Box<kube::Config>>,
        /// The namespaces to watch; empty: all of them.
        namespaces: Vec<String>,
        /// Whether Secrets are read.
        secrets: bool,
        /// Where the objects are kept, for a start at which it doesn't answer.
        state: Option<StateDir>,
    },
    /// What another process has kept of a cluster on this disk, and nothing newer.
    Copy {
        /// Where it is.
        directory: PathBuf,
        /// The namespaces that are served; empty: all of them.
        namespaces: Vec<String>,
        /// Whether Secrets are wanted.
        secrets: bool,
    },
}

/// A source whose start-up errors are behind it.
#[derive(Debug)]
pub struct Opened(Kind);

#[derive(Debug)]
enum Kind {
    Files(Files),
    Cluster(Cluster, Option<StateDir>),
    Copy(Copy),
}

/// Why a source cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A path given on the command line can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Neither a cluster's credentials nor files.
    #[error("no cluster to reach and no --manifests: {0}")]
    NoCluster(String),
    /// There are credentials, but they can't be used.
    #[error("the Kubernetes client can't be set up: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The API server can't be reached, or refuses.
    #[error("listing {what} failed: {cause}")]
    List {
        /// The kind, and the namespace if there is one.
        what: String,
        /// The client's error.
        cause: Box<kube::Error>,
    },
    /// There is no copy of a cluster's objects to serve, or none that can be used.
    #[error("the copy of the cluster's objects in {} {cause}: there is nothing to serve until a Nodegate of this cluster has written another one", directory.display())]
    Copy {
        /// Where it should be.
        directory: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A part of the source panicked.
    #[error("{0} stopped unexpectedly")]
    Stopped(&'static str),
}

impl Source {
    /// Does what can fail at the start, so that it is said before anything is served: finds the files, or the way to a cluster. Whether the
    /// cluster answers doesn't matter here: an API server that is down is waited for.
    ///
    /// # Errors
    /// [`SourceError::Load`] for a path that doesn't exist or can't be read; [`SourceError::NoCluster`] and [`SourceError::Client`] where no
    /// usable credentials are found; [`SourceError::Copy`] for one that can't be used.
    pub async fn open(self) -> Result<Opened, SourceError> {
        Ok(Opened(match self {
            Self::Files(paths) => Kind::Files(Files::open(paths)?),
            Self::Cluster { config, namespaces, secrets, state } => Kind::Cluster(Cluster::open(config, namespaces, secrets).await?, state),
            Self::Copy { directory, namespaces, secrets } => Kind::Copy(Copy::open(&directory, cluster::lists(&namespaces, secrets))?),
        }))
    }
}

impl Opened {
    /// Keeps the table up to date until the future is dropped: watches the source, rebuilds, publishes, reports.
    ///
    /// # Errors
    /// Only if a part of it panicked. Whatever is wrong with the source itself is waited out, with the last table in force.
    pub async fn run(self, options: Options, publisher: Publisher, report: watch::Sender<Report>) -> Result<Infallible, SourceError> {
        match self.0 {
            Kind::Files(files) => {
                let shared = Shared::new(Stores::new(file::lists()));
                let rebuild = rebuild::run(&shared, Pace::AT_ONCE, options, publisher, &report);
                tokio::select! { ended = rebuild => ended, ended = file::run(files, &shared, Instant::now()) => ended }
            }
            Kind::Copy(copy) => {
                let shared = Shared::new(copy.awaited());
                let rebuild = rebuild::run(&shared, Pace::AT_ONCE, options, publisher, &report);
                tokio::select! { ended = rebuild => ended, ended = copy.run(&shared) => ended }
            }
            Kind::Cluster(cluster, state) => {
                let shared = std::sync::Arc::new(Shared::new(Stores::new(cluster.lists())));
                let default = options.default_certificate.clone();
                let saved = state.map(|state| Saved::new(state, cluster.origin().clone(), cluster.lists(), default));
                let rebuild = rebuild::run(&shared, Pace::DEBOUNCED, options, publisher, &report);
                let keep = async {
                    match saved {
                        Some(saved) => saved.run(&shared, &report).await,
                        None => pending().await,
                    }
                };
                tokio::select! { ended = rebuild => ended, ended = cluster.run(&shared) => ended, ended = keep => ended }
            }
        }
    }
}

/// Opens the source and runs it: see [`Source::open`] and [`Opened::run`].
///
/// # Errors
/// Those of the two.
pub async fn run(source: Source, options: Options, publisher: Publisher, report: watch::Sender<Report>) -> Result<Infallible, SourceError> {
    source.open().await?.run(options, publisher, report).await
}
