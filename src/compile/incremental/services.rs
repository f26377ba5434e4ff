//! What is known of each Service's name: its EndpointSlices, who names it, and the backends that were made of it.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use foldhash::fast::RandomState;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use super::{
    super::index,
    tracked::{Changes, Name, Number},
};
use crate::route::{Backend, BackendId};

/// What there is under a Service's name.
#[derive(Debug, Default)]
struct NamedService {
    /// The names of its EndpointSlices.
    slices: Vec<Box<str>>,
    /// The Ingresses that name it.
    users: HashSet<Number, RandomState>,
    /// By port, since one Service may have thousands of these.
    backends: HashMap<Arc<str>, Vec<Arc<Backend>>, RandomState>,
}

/// All Services that an Ingress names, or an EndpointSlice.
#[derive(Debug, Default)]
pub(in super::super) struct Services(HashMap<Name, NamedService, RandomState>);

impl Services {
    /// Takes note of what has changed. Returns the Ingresses that it concerns.
    pub(super) fn turn(&mut self, services: &Changes<Service>, slices: &Changes<EndpointSlice>) -> HashSet<Number, RandomState> {
        let mut concerned = HashSet::default();
        for (service, _) in services.all() {
            self.change(index::key(&service.metadata), &mut concerned, |_| {});
        }
        for (slice, is_new) in slices.all() {
            let Some(name) = index::service_of(slice) else { continue };
            self.change(name, &mut concerned, |slices| {
                let (_, name) = index::key(&slice.metadata);
                if is_new {
                    slices.push(name.into());
                } else {
                    slices.retain(|kept| **kept != *name);
                }
            });
        }
        concerned
    }

    fn change(&mut self, name: (&str, &str), concerned: &mut HashSet<Number, RandomState>, change: impl FnOnce(&mut Vec<Box<str>>)) {
        let name = Name { namespace: Arc::from(name.0), name: Arc::from(name.1) };
        let named = self.0.entry(name.clone()).or_default();
        change(&mut named.slices);
        concerned.extend(&named.users);
        self.tidy(name);
    }

    /// Takes note of an Ingress that names these.
    pub(super) fn enter(&mut self, user: Number, names: &[Name]) {
        for name in names {
            self.0.entry(name.clone()).or_default().users.insert(user);
        }
    }

    /// Forgets an Ingress that named these.
    pub(super) fn forget(&mut self, user: Number, names: Box<[Name]>) {
        for name in names {
            if let Some(named) = self.0.get_mut(&name) {
                named.users.remove(&user);
                self.tidy(name);
            }
        }
    }

    /// The names of a Service's EndpointSlices, which are in its namespace.
    pub(super) fn slices(&self, name: &Name) -> &[Box<str>] {
        self.0.get(name).map_or(&[], |named| &named.slices)
    }

    /// A backend that is equal, where one was made before: whoever compares them sees at a glance that nothing has changed.
    pub(in super::super) fn earlier(&self, backend: &Backend) -> Option<Arc<Backend>> {
        let of_port = self.0.get(&name_of(backend))?.backends.get(&backend.id.port)?;
        of_port.iter().find(|earlier| ***earlier == *backend).cloned()
    }

    /// Keeps backends for [`Services::earlier`], as long as a table has them.
    pub(super) fn keep(&mut self, backends: Vec<Arc<Backend>>) {
        for backend in backends {
            if let Some(named) = self.0.get_mut(&name_of(&backend)) {
                let of_port = named.backends.entry(Arc::clone(&backend.id.port)).or_default();
                of_port.retain(|kept| Arc::strong_count(kept) > 1 && !Arc::ptr_eq(kept, &backend));
                of_port.push(backend);
            }
        }
    }

    /// Forgets what nobody has to know any more.
    fn tidy(&mut self, name: Name) {
        if let Entry::Occupied(mut entry) = self.0.entry(name) {
            let named = entry.get_mut();
            if named.users.is_empty() {
                named.backends = HashMap::default();
                if named.slices.is_empty() {
                    entry.remove();
                }
            }
        }
    }
}

fn name_of(backend: &Backend) -> Name {
    let BackendId { namespace, service, port: _ } = &backend.id;
    Name { namespace: Arc::clone(namespace), name: Arc::clone(service) }
}
