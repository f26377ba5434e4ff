//! `--state-dir` and what belongs to it: a copy of the cluster's objects on the node's disk.

use std::{path::PathBuf, time::Duration};

use super::{
    args::StateArgs,
    settings::{SettingsError, bad},
};

/// Where the objects behind the table are kept, for a start without an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    /// The directory: made where it is missing.
    pub path: PathBuf,
    /// Whether Secrets are kept, too.
    pub secrets: bool,
    /// How long a start waits for the API server before it serves what is there.
    pub api_timeout: Duration,
    /// What is there is all that is served, and only while nobody else serves on this node.
    pub standby: bool,
}

impl StateDir {
    /// `None`: nothing is kept.
    pub(super) fn new(args: &StateArgs, manifests: bool) -> Result<Option<Self>, SettingsError> {
        let StateArgs { state_dir, persist_secrets, api_timeout, standby } = args;
        let Some(path) = state_dir.clone() else {
            if *persist_secrets {
                return Err(bad("--persist-secrets", &"needs --state-dir, which says where"));
            }
            if *standby {
                return Err(bad("--standby", &"needs --state-dir: what is there is all that it serves"));
            }
            return Ok(None);
        };
        if manifests {
            return Err(bad("--state-dir", &"is for the cluster's objects: --manifests are on disk already"));
        }
        if path.as_os_str().is_empty() {
            return Err(bad("--state-dir", &"expected a directory"));
        }
        if api_timeout.0.is_zero() {
            return Err(bad("--api-timeout", &"must be more than 0"));
        }
        Ok(Some(Self { path, secrets: *persist_secrets, api_timeout: api_timeout.0, standby: *standby }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Span, limits::API_TIMEOUT};

    #[test]
    fn what_makes_no_sense_is_refused() {
        let args = |state_dir: Option<&str>, persist_secrets, api_timeout| StateArgs {
            state_dir: state_dir.map(PathBuf::from),
            persist_secrets,
            api_timeout: Span(api_timeout),
            standby: false,
        };
        let refused = |args, manifests| StateDir::new(&args, manifests).unwrap_err().to_string();
        assert!(refused(args(None, true, API_TIMEOUT), false).contains("--persist-secrets"));
        assert!(refused(StateArgs { standby: true, ..args(None, false, API_TIMEOUT) }, false).contains("--standby"));
        assert!(refused(args(Some("/s"), false, API_TIMEOUT), true).contains("--manifests"));
        assert!(refused(args(Some(""), false, API_TIMEOUT), false).contains("--state-dir"));
        assert!(refused(args(Some("/s"), false, Duration::ZERO), false).contains("--api-timeout"));
        assert_eq!(StateDir::new(&args(None, false, API_TIMEOUT), true).unwrap(), None);
        let kept = StateDir { path: "/s".into(), secrets: true, api_timeout: API_TIMEOUT, standby: false };
        assert_eq!(StateDir::new(&args(Some("/s"), true, API_TIMEOUT), false).unwrap(), Some(kept));
    }
}
