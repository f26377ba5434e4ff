//! Objects by their names, and which of them have changed since the last time.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use k8s_openapi::{Metadata, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    super::{
        index::{key, or_default},
        same::Same,
    },
    Edit,
};

/// What Ingresses call a Service or a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Name {
    pub(in super::super) namespace: Arc<str>,
    pub(in super::super) name: Arc<str>,
}

/// Stands for one version of an object that differs from the last one; never used again.
pub(super) type Number = u64;

type ByName<T> = HashMap<Box<str>, T, RandomState>;

/// The objects of one kind, as they were the last time.
#[derive(Debug)]
pub(super) struct Tracked<T> {
    /// By namespace, then by name.
    seen: ByName<ByName<Seen<T>>>,
    last: Number,
}

#[derive(Debug)]
struct Seen<T> {
    object: Arc<T>,
    number: Number,
}

/// What a turn has brought. An object that was changed is in both.
pub(super) struct Changes<T> {
    pub(super) gone: Vec<(Number, Arc<T>)>,
    pub(super) new: Vec<(Number, Arc<T>)>,
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self { seen: HashMap::default(), last: 0 }
    }
}

impl<T: Metadata<Ty = ObjectMeta> + Same> Tracked<T> {
    /// Takes note of what has become of some objects.
    pub(super) fn turn(&mut self, edits: Vec<Edit<T>>) -> Changes<T> {
        let mut changes = Changes { gone: Vec::new(), new: Vec::new() };
        for edit in edits {
            match edit {
                Edit::Put(object) => self.put(object, &mut changes),
                Edit::Remove { namespace, name } => changes.gone.extend(self.remove(&namespace, &name)),
            }
        }
        changes
    }

    fn put(&mut self, object: Arc<T>, changes: &mut Changes<T>) {
        let (namespace, name) = key(object.metadata());
        let number = self.last + 1;
        if let Some(seen) = self.seen.get_mut(namespace).and_then(|names| names.get_mut(name)) {
            let old = std::mem::replace(&mut seen.object, Arc::clone(&object));
            if old.same(&object) {
                return;
            }
            changes.gone.push((std::mem::replace(&mut seen.number, number), old));
        } else {
            let seen = Seen { object: Arc::clone(&object), number };
            self.seen.entry(namespace.into()).or_default().insert(name.into(), seen);
        }
        self.last = number;
        changes.new.push((number, object));
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<(Number, Arc<T>)> {
        let namespace = or_default(namespace);
        let names = self.seen.get_mut(namespace)?;
        let Seen { object, number } = names.remove(name)?;
        if names.is_empty() {
            self.seen.remove(namespace);
        }
        Some((number, object))
    }

    /// All of them, each with its number, in any order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<T>, Number)> {
        self.seen.values().flat_map(|names| names.values()).map(|seen| (&seen.object, seen.number))
    }

    /// All of them, in any order.
    pub(super) fn objects(&self) -> Vec<Arc<T>> {
        self.all().map(|(object, _)| Arc::clone(object)).collect()
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        Some(&self.seen.get(or_default(namespace))?.get(name)?.object)
    }

    pub(super) fn number(&self, namespace: &str, name: &str) -> Option<Number> {
        Some(self.seen.get(namespace)?.get(name)?.number)
    }
}

impl<T> Changes<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }

    /// Those that are gone, then those that are new, of which it says so.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<T>, bool)> {
        self.gone.iter().map(|(_, gone)| (gone, false)).chain(self.new.iter().map(|(_, new)| (new, true)))
    }
}
