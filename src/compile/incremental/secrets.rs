//! What is known of each Secret's name: who names it, what its last version held, and the last certificate that was good.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::api::core::v1::Secret;

use super::{
    super::{
        certificates::{Held, HeldClients, HeldTrust, Looked},
        index,
    },
    tracked::{Changes, Name, Number},
};
use crate::certificate::Certificate;

/// What there is under a Secret's name.
#[derive(Debug, Default)]
struct NamedSecret {
    /// The Ingresses that name it.
    users: HashSet<Number, RandomState>,
    /// What came of the version that is there now, once somebody wanted to know.
    held: Option<Held>,
    /// The same for the authorities in it.
    trust: Option<HeldTrust>,
    clients: Option<HeldClients>,
    /// Served while what is there is no good, and after it is gone.
    good: Option<Arc<Certificate>>,
}

/// All Secrets that an Ingress names.
#[derive(Debug, Default)]
pub(in super::super) struct Secrets(HashMap<Name, NamedSecret, RandomState>);

impl Secrets {
    /// Takes note of what has changed. Returns the Ingresses that it concerns.
    pub(super) fn turn(&mut self, secrets: &Changes<Secret>) -> HashSet<Number, RandomState> {
        let mut concerned = HashSet::default();
        for (secret, _) in secrets.all() {
            let (namespace, name) = index::key(&secret.metadata);
            if let Some(named) = self.0.get_mut(&Name { namespace: Arc::from(namespace), name: Arc::from(name) }) {
                named.held = None;
                named.trust = None;
                named.clients = None;
                concerned.extend(&named.users);
            }
        }
        concerned
    }

    /// Takes note of an Ingress that names these.
    pub(super) fn enter(&mut self, user: Number, names: &[Name]) {
        for name in names {
            self.0.entry(name.clone()).or_default().users.insert(user);
        }
    }

    /// Forgets an Ingress that named these, and what nobody names any more.
    pub(super) fn forget(&mut self, user: Number, names: Box<[Name]>) {
        for name in names {
            if let Entry::Occupied(mut entry) = self.0.entry(name) {
                entry.get_mut().users.remove(&user);
                if entry.get().users.is_empty() {
                    entry.remove();
                }
            }
        }
    }

    /// What the version holds that is there now, if it was looked at before.
    pub(in super::super) fn earlier(&self, name: &Name) -> Option<&Held> {
        self.0.get(name)?.held.as_ref()
    }

    /// The authorities that it holds, if they were looked at before.
    pub(in super::super) fn earlier_trust(&self, name: &Name) -> Option<&HeldTrust> {
        self.0.get(name)?.trust.as_ref()
    }

    /// The same for clients.
    pub(in super::super) fn earlier_clients(&self, name: &Name) -> Option<&HeldClients> {
        self.0.get(name)?.clients.as_ref()
    }

    /// The last certificate under this name that was good.
    pub(in super::super) fn last_good(&self, name: &Name) -> Option<&Arc<Certificate>> {
        self.0.get(name)?.good.as_ref()
    }

    /// Keeps what was found, for [`Secrets::earlier`] and [`Secrets::last_good`].
    pub(super) fn keep(&mut self, found: Looked) {
        let Looked { certificates, trusts, clients } = found;
        for (name, clients) in clients {
            if let Some(named) = self.0.get_mut(&name) {
                named.clients = Some(clients);
            }
        }
        for (name, trust) in trusts {
            if let Some(named) = self.0.get_mut(&name) {
                named.trust = Some(trust);
            }
        }
        for (name, held) in certificates {
            if let Some(named) = self.0.get_mut(&name) {
                if let Ok(certificate) = &held {
                    named.good = Some(Arc::clone(certificate));
                }
                named.held = Some(held);
            }
        }
    }
}
