//! Who may go along a path beside those whom its Ingress admits: certificate authorities, with their challenges.

use super::{
    super::parse::{BackendRef, Rule},
    Current,
};
use crate::message;

/// Who may go along a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Admission {
    /// Whoever the Ingress admits.
    Usual,
    /// Challenges of certificate authorities besides.
    Challenges,
}

/// The Services that paths of an Ingress lead to which aren't for challenges alone.
pub(super) fn protected<'a>(rules: &[Rule<'a>], default: Option<BackendRef<'a>>) -> Vec<&'a str> {
    let paths = rules.iter().flat_map(|rule| &rule.paths).filter(|path| !message::is_for_acme_challenges(path.text));
    paths.map(|path| path.backend).chain(default).filter_map(service_name).collect()
}

impl Current<'_, '_> {
    /// Who may go along a path. A certificate authority may, where the path was written for it, as cert-manager does with an Ingress that it edits in place,
    /// and leads to nothing that certain clients alone may reach.
    pub(super) fn admission(&self, path: &str, backend: BackendRef<'_>) -> Admission {
        let is_apart = || service_name(backend).is_some_and(|name| !self.protected.contains(&name));
        let admits_challenges = self.annotations.policy.clients.is_some() && message::is_for_acme_challenges(path) && is_apart();
        if admits_challenges { Admission::Challenges } else { Admission::Usual }
    }
}

fn service_name(backend: BackendRef<'_>) -> Option<&str> {
    match backend {
        BackendRef::Service { name, port: _ } => Some(name),
        BackendRef::Resource { .. } | BackendRef::Invalid => None,
    }
}
