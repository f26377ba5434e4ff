//! Objects by their names, and which of them have changed since the last time.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use k8s_openapi::{Metadata, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::super::{index::key, same::Same};

/// Stands for one version of an object that differs from the last one; never used again.
pub(super) type Number = u64;

type ByName<T> = HashMap<Box<str>, T, RandomState>;

/// The objects of one kind, as they were the last time.
#[derive(Debug)]
pub(super) struct Tracked<T> {
    /// By namespace, then by name.
    seen: ByName<ByName<Seen<T>>>,
    len: usize,
    turn: u64,
    last: Number,
}

#[derive(Debug)]
struct Seen<T> {
    object: Arc<T>,
    number: Number,
    /// When it was there last.
    turn: u64,
}

/// What a turn has brought. An object that was changed is in both.
pub(super) struct Changes<T> {
    pub(super) gone: Vec<(Number, Arc<T>)>,
    pub(super) new: Vec<(Number, Arc<T>)>,
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self { seen: HashMap::default(), len: 0, turn: 0, last: 0 }
    }
}

impl<T: Metadata<Ty = ObjectMeta> + Same> Tracked<T> {
    /// Takes note of the objects of a moment.
    pub(super) fn turn(&mut self, objects: &[Arc<T>]) -> Changes<T> {
        self.turn += 1;
        let mut changes = Changes { gone: Vec::new(), new: Vec::new() };
        for object in objects {
            let (namespace, name) = key(object.metadata());
            if let Some(seen) = self.seen.get_mut(namespace).and_then(|names| names.get_mut(name)) {
                seen.turn = self.turn;
                if Arc::ptr_eq(&seen.object, object) {
                    continue;
                }
                let old = std::mem::replace(&mut seen.object, Arc::clone(object));
                if old.same(object) {
                    continue;
                }
                self.last += 1;
                changes.gone.push((std::mem::replace(&mut seen.number, self.last), old));
            } else {
                self.last += 1;
                self.len += 1;
                let seen = Seen { object: Arc::clone(object), number: self.last, turn: self.turn };
                self.seen.entry(namespace.into()).or_default().insert(name.into(), seen);
            }
            changes.new.push((self.last, Arc::clone(object)));
        }
        if self.len > objects.len() {
            self.drop_unseen(&mut changes.gone);
        }
        changes
    }

    fn drop_unseen(&mut self, gone: &mut Vec<(Number, Arc<T>)>) {
        let (turn, before) = (self.turn, gone.len());
        self.seen.retain(|_, names| {
            gone.extend(names.extract_if(|_, seen| seen.turn != turn).map(|(_, seen)| (seen.number, seen.object)));
            !names.is_empty()
        });
        self.len -= gone.len() - before;
    }

    /// Takes newer versions that make no difference, so that the old ones aren't kept.
    pub(super) fn refresh(&mut self, objects: &[Arc<T>]) {
        for object in objects {
            let (namespace, name) = key(object.metadata());
            let seen = self.seen.get_mut(namespace).and_then(|names| names.get_mut(name));
            if let Some(seen) = seen.filter(|seen| !Arc::ptr_eq(&seen.object, object) && seen.object.same(object)) {
                seen.object = Arc::clone(object);
            }
        }
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        Some(&self.seen.get(namespace)?.get(name)?.object)
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
