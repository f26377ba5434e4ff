//! The typed stores: what every source writes, through the same calls, and what the rebuild reads. No I/O.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use k8s_openapi::api::networking::v1::Ingress;

use crate::{
    compile::{self, Delta, Diagnostic, Edit, Objects},
    source::object::{Key, Kind, Object},
};

/// One thing that happened at the source.
#[derive(Debug)]
pub(super) enum Change {
    /// An object is there, or is there in a new version.
    Upsert(Version),
    /// An object is gone.
    Delete(Key),
    /// A list is complete: whatever of this kind is in the list's namespaces, and not in the list, is gone.
    ReplaceAll {
        /// Which list.
        list: List,
        /// Everything in it.
        versions: Vec<Version>,
    },
}

/// What a change can mean for whoever reads the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Only something that no table is made of: the status of an Ingress. Its writer has to see it.
    Status,
    /// Possibly the table, or what is wrong.
    Table,
}

/// A version of an object, as the source delivered it.
#[derive(Debug, Clone)]
pub(super) enum Version {
    /// It was understood.
    Decoded(Object),
    /// It wasn't, but it is known whose version it is.
    Undecodable {
        /// The object.
        key: Key,
        /// Its `metadata.uid`, where it has one.
        uid: Option<Arc<str>>,
        /// Its `metadata.resourceVersion`, where it has one.
        resource_version: Option<String>,
        /// What is wrong with it.
        problem: Box<Diagnostic>,
    },
}

impl Version {
    /// Whose version it is.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Decoded(object) => object.key(),
            Self::Undecodable { key, .. } => key.clone(),
        }
    }
}

/// A list that a source delivers: a kind, in one namespace or in all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct List {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None` for all of them.
    pub namespace: Option<Arc<str>>,
}

impl List {
    /// Whether this object is in it.
    pub(super) fn covers(&self, key: &Key) -> bool {
        key.kind == self.kind && (!key.kind.namespaced() || self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace))
    }
}

/// Such as `Ingress in shop`; without a namespace for all of them.
impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        self.namespace.iter().try_for_each(|namespace| write!(f, " in {namespace}"))
    }
}

/// The objects in force. An object whose new version cannot be decoded, or isn't admitted, keeps its previous version, where there was one.
#[derive(Debug, Default)]
pub(super) struct Stores {
    good: HashMap<Key, Object>,
    /// Objects whose newest version isn't in force.
    held: HashMap<Key, Held>,
    /// Those that may be another version than the last [`Stores::delta`] told of, or gone.
    changed: HashSet<Key>,
    awaited: HashSet<List>,
}

/// A version that couldn't come into force.
#[derive(Debug)]
struct Held {
    problems: Vec<Diagnostic>,
    /// Its `metadata.uid`.
    uid: Option<Arc<str>>,
}

impl Held {
    /// Whether it may be a version of this very object, and not of another one of its name.
    fn is_of(&self, object: &Object) -> bool {
        let uids = self.uid.as_deref().zip(object.uid());
        uids.is_none_or(|(held, known)| held == known)
    }
}

impl Stores {
    /// Empty stores, which are complete once each of `lists` was delivered.
    pub(super) fn new(lists: impl IntoIterator<Item = List>) -> Self {
        Self { awaited: lists.into_iter().collect(), ..Self::default() }
    }

    /// Takes note of a change. What it means is looked at where it can come ten thousand times in a row: a status is written to each Ingress.
    pub(super) fn apply(&mut self, change: Change) -> Effect {
        match change {
            Change::Upsert(version) => self.put(version),
            Change::Delete(key) => {
                self.remove(&key);
                Effect::Table
            }
            Change::ReplaceAll { list, versions } => {
                self.replace(&list, versions);
                Effect::Table
            }
        }
    }

    /// Whether every list was delivered at least once. Before that the objects are a part of the truth, and nothing may be built of them.
    pub(super) fn complete(&self) -> bool {
        self.awaited.is_empty()
    }

    /// The objects in force, in any order. The cost is a reference count for each.
    pub(super) fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        for object in self.good.values() {
            match object {
                Object::Ingress(object) => objects.ingresses.push(Arc::clone(object)),
                Object::IngressClass(object) => objects.classes.push(Arc::clone(object)),
                Object::Service(object) => objects.services.push(Arc::clone(object)),
                Object::EndpointSlice(object) => objects.slices.push(Arc::clone(object)),
                Object::Secret(object) => objects.secrets.push(Arc::clone(object)),
            }
        }
        objects
    }

    /// Each of them.
    pub(super) fn each(&self) -> impl Iterator<Item = &Object> {
        self.good.values()
    }

    /// What has become of the objects in force since the last call. The cost is that of what has changed.
    pub(super) fn delta(&mut self) -> Delta {
        let mut delta = Delta::default();
        for key in std::mem::take(&mut self.changed) {
            let Key { kind, namespace, name } = &key;
            let (namespace, name) = (Arc::clone(namespace), Arc::clone(name));
            match (self.good.get(&key), kind) {
                (Some(Object::Ingress(object)), _) => delta.ingresses.push(Edit::Put(Arc::clone(object))),
                (Some(Object::IngressClass(object)), _) => delta.classes.push(Edit::Put(Arc::clone(object))),
                (Some(Object::Service(object)), _) => delta.services.push(Edit::Put(Arc::clone(object))),
                (Some(Object::EndpointSlice(object)), _) => delta.slices.push(Edit::Put(Arc::clone(object))),
                (Some(Object::Secret(object)), _) => delta.secrets.push(Edit::Put(Arc::clone(object))),
                (None, Kind::Ingress) => delta.ingresses.push(Edit::Remove { namespace, name }),
                (None, Kind::IngressClass) => delta.classes.push(Edit::Remove { namespace, name }),
                (None, Kind::Service) => delta.services.push(Edit::Remove { namespace, name }),
                (None, Kind::EndpointSlice) => delta.slices.push(Edit::Remove { namespace, name }),
                (None, Kind::Secret) => delta.secrets.push(Edit::Remove { namespace, name }),
            }
        }
        delta
    }

    /// What is wrong with the newest versions of those objects that couldn't take them, in any order.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.held.values().flat_map(|held| &held.problems)
    }

    /// The uids of those objects: some of them have no version in force, and aren't in [`Stores::objects`].
    pub(super) fn held(&self) -> impl Iterator<Item = (&Key, &Arc<str>)> {
        self.held.iter().filter_map(|(key, held)| Some((key, held.uid.as_ref()?)))
    }

    fn put(&mut self, version: Version) -> Effect {
        match version {
            Version::Decoded(object) => match refusals(&object) {
                None => {
                    let key = object.key();
                    let mended = self.held.remove(&key).is_some();
                    let old = self.good.insert(key.clone(), object.clone());
                    self.changed.insert(key);
                    let same = !mended && old.is_some_and(|old| old.routes_like(&object));
                    return if same { Effect::Status } else { Effect::Table };
                }
                Some(problems) => self.hold(object.key(), object.uid().map(Arc::from), problems),
            },
            Version::Undecodable { key, uid, resource_version: _, problem } => self.hold(key, uid, vec![*problem]),
        }
        Effect::Table
    }

    /// Keeps the version in force, if there is one, in the place of a newer one that is no good.
    fn hold(&mut self, key: Key, uid: Option<Arc<str>>, mut problems: Vec<Diagnostic>) {
        if self.good.contains_key(&key) {
            say_what_stays(&mut problems);
        }
        self.held.insert(key, Held { problems, uid });
    }

    /// Takes the place of stores that were in force before. What they had and these don't is gone, but for objects whose newest version is no good: they
    /// keep the version from there. Returns the Ingresses that they had and these have, too: whoever compiles them may like the newer version less.
    pub(super) fn succeed(&mut self, before: Self) -> Vec<Arc<Ingress>> {
        let mut earlier = Vec::new();
        for (key, object) in before.good {
            if self.good.contains_key(&key) {
                if let Object::Ingress(ingress) = object {
                    earlier.push(ingress);
                }
                continue;
            }
            if let Some(held) = self.held.get_mut(&key).filter(|held| held.is_of(&object)) {
                say_what_stays(&mut held.problems);
                self.good.insert(key.clone(), object);
            }
            self.changed.insert(key);
        }
        earlier
    }

    fn remove(&mut self, key: &Key) {
        self.held.remove(key);
        if self.good.remove(key).is_some() {
            self.changed.insert(key.clone());
        }
    }

    fn replace(&mut self, list: &List, versions: Vec<Version>) {
        let present: HashSet<Key> = versions.iter().map(Version::key).collect();
        let known = self.good.keys().chain(self.held.keys());
        let absent: Vec<Key> = known.filter(|key| list.covers(key) && !present.contains(*key)).cloned().collect();
        for key in absent {
            self.remove(&key);
        }
        for version in versions {
            self.put(version);
        }
        self.awaited.remove(list);
    }
}

fn say_what_stays(problems: &mut [Diagnostic]) {
    for problem in problems {
        problem.message.push_str("; the previous version stays in force");
    }
}

/// Why the object may not come into force at all. An API server would have refused it; a file can hold anything.
fn refusals(object: &Object) -> Option<Vec<Diagnostic>> {
    match object {
        Object::Ingress(ingress) => compile::admit(ingress).err(),
        Object::IngressClass(_) | Object::Service(_) | Object::EndpointSlice(_) | Object::Secret(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::{Severity, Subject},
        source::object::Stored,
    };
    use k8s_openapi::{
        Metadata,
        api::{
            core::v1::{Secret, Service},
            discovery::v1::EndpointSlice,
            networking::v1::{Ingress, IngressClass},
        },
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };
    use serde::de::DeserializeOwned;
    use serde_json::json;

    fn service(namespace: &str, name: &str, version: &str) -> Version {
        let value = json!({"metadata": {"namespace": namespace, "name": name, "resourceVersion": version}});
        Version::Decoded(serde_json::from_value::<Service>(value).unwrap().into_object())
    }

    fn broken(namespace: &str, name: &str) -> Version {
        let key = Key { kind: Kind::Service, namespace: namespace.into(), name: name.into() };
        let subject = Subject::File { path: "f".into(), document: 1, line: 1 };
        let problem = Diagnostic { severity: Severity::Error, code: "undecodable", subject, message: "bad".into(), help: "fix".into() };
        Version::Undecodable { key, uid: None, resource_version: None, problem: Box::new(problem) }
    }

    fn list(namespace: Option<&str>) -> List {
        List { kind: Kind::Service, namespace: namespace.map(Into::into) }
    }

    fn contents(stores: &Stores) -> Vec<String> {
        let text = |service: &Service| {
            let metadata = &service.metadata;
            format!("{}@{}", metadata.name.as_deref().unwrap(), metadata.resource_version.as_deref().unwrap())
        };
        let mut names: Vec<_> = stores.objects().services.iter().map(|service| text(service)).collect();
        names.sort();
        names
    }

    #[test]
    fn an_undecodable_version_keeps_the_good_one_until_it_is_mended_or_deleted() {
        let mut stores = Stores::new([]);
        stores.apply(Change::Upsert(service("n", "a", "1")));
        stores.apply(Change::Upsert(broken("n", "a")));
        assert_eq!(contents(&stores), ["a@1"]);
        let messages: Vec<_> = stores.diagnostics().map(|diagnostic| diagnostic.message.clone()).collect();
        assert_eq!(messages, ["bad; the previous version stays in force"]);

        stores.apply(Change::Upsert(service("n", "a", "3")));
        assert_eq!(contents(&stores), ["a@3"]);
        assert_eq!(stores.diagnostics().count(), 0);

        stores.apply(Change::Upsert(broken("n", "a")));
        stores.apply(Change::Delete(broken("n", "a").key()));
        assert_eq!(contents(&stores), Vec::<String>::new());
        assert_eq!(stores.diagnostics().count(), 0);
    }

    #[test]
    fn an_undecodable_first_version_is_reported_and_nothing_is_in_force() {
        let mut stores = Stores::new([]);
        stores.apply(Change::Upsert(broken("n", "a")));
        assert_eq!(contents(&stores), Vec::<String>::new());
        assert_eq!(stores.diagnostics().next().unwrap().message, "bad");
    }

    #[test]
    fn a_list_deletes_what_it_lacks_and_keeps_the_good_version_of_what_it_cannot_decode() {
        let mut stores = Stores::new([list(None)]);
        for name in ["a", "b", "c"] {
            stores.apply(Change::Upsert(service("n", name, "1")));
        }
        stores.apply(Change::ReplaceAll { list: list(None), versions: vec![broken("n", "a"), service("n", "b", "2")] });
        assert_eq!(contents(&stores), ["a@1", "b@2"]);
    }

    /// What a delta says, in order: `+` what is there, `-` what is gone.
    fn told(stores: &mut Stores) -> Vec<String> {
        fn one<T: Metadata<Ty = ObjectMeta>>(kind: &str, edits: Vec<Edit<T>>) -> Vec<String> {
            let text = |edit| match edit {
                Edit::Put(object) => format!("+{kind} {}", T::metadata(&object).name.as_deref().unwrap()),
                Edit::Remove { namespace, name } => format!("-{kind} {namespace}/{name}"),
            };
            edits.into_iter().map(text).collect()
        }
        let Delta { ingresses, classes, services, slices, secrets, earlier: _ } = stores.delta();
        let (routed, leading) = (one("Ingress", ingresses), [one("Service", services), one("EndpointSlice", slices)].concat());
        let mut all = [routed, one("IngressClass", classes), leading, one("Secret", secrets)].concat();
        all.sort();
        all
    }

    #[test]
    fn a_delta_tells_once_what_has_become_of_each_object() {
        fn put<K: Stored + DeserializeOwned>(value: serde_json::Value) -> Change {
            Change::Upsert(Version::Decoded(serde_json::from_value::<K>(value).unwrap().into_object()))
        }
        let delete = |kind, namespace: &str, name: &str| Change::Delete(Key { kind, namespace: namespace.into(), name: name.into() });
        // A file may write a namespace for a class, which has none.
        let metadata = json!({"namespace": "n", "name": "x"});
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": []});
        let ingress = json!({"metadata": metadata, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
        let mut stores = Stores::new([]);
        stores.apply(put::<Ingress>(ingress));
        stores.apply(put::<IngressClass>(json!({"metadata": metadata})));
        stores.apply(put::<Service>(json!({"metadata": metadata})));
        stores.apply(put::<EndpointSlice>(slice));
        stores.apply(put::<Secret>(json!({"metadata": metadata})));
        stores.apply(Change::Upsert(service("n", "brief", "1")));
        stores.apply(delete(Kind::Service, "n", "brief"));
        assert_eq!(told(&mut stores), ["+EndpointSlice x", "+Ingress x", "+IngressClass x", "+Secret x", "+Service x", "-Service n/brief"]);
        assert_eq!(told(&mut stores), Vec::<String>::new());

        stores.apply(Change::Upsert(broken("n", "x")));
        assert_eq!(told(&mut stores), Vec::<String>::new(), "the previous version stays in force");
        for kind in [Kind::Ingress, Kind::Service, Kind::EndpointSlice, Kind::Secret] {
            stores.apply(delete(kind, "n", "x"));
        }
        stores.apply(delete(Kind::IngressClass, "", "x"));
        assert_eq!(told(&mut stores), ["-EndpointSlice n/x", "-Ingress n/x", "-IngressClass /x", "-Secret n/x", "-Service n/x"]);
        assert_eq!(stores.diagnostics().count(), 0);
    }

    #[test]
    fn a_list_of_one_namespace_leaves_the_others_alone() {
        let mut stores = Stores::new([list(Some("n")), list(Some("m"))]);
        stores.apply(Change::ReplaceAll { list: list(Some("m")), versions: vec![service("m", "x", "1")] });
        assert!(!stores.complete());
        stores.apply(Change::ReplaceAll { list: list(Some("n")), versions: vec![service("n", "a", "1")] });
        assert!(stores.complete());
        stores.apply(Change::ReplaceAll { list: list(Some("n")), versions: vec![] });
        assert_eq!(contents(&stores), ["x@1"]);
        assert!(stores.complete(), "a second list doesn't make the stores incomplete");
    }

    #[test]
    fn what_succeeds_others_removes_what_is_gone_and_keeps_the_good_version_of_what_is_not() {
        let mut before = Stores::new([]);
        for name in ["changed", "gone", "broken"] {
            before.apply(Change::Upsert(service("n", name, "1")));
        }
        let mut stores = Stores::new([list(None)]);
        let versions = vec![service("n", "changed", "2"), broken("n", "broken"), broken("n", "never-good"), service("n", "new", "2")];
        stores.apply(Change::ReplaceAll { list: list(None), versions });
        assert!(stores.succeed(before).is_empty());
        assert_eq!(told(&mut stores), ["+Service broken", "+Service changed", "+Service new", "-Service n/gone"]);
        assert_eq!(contents(&stores), ["broken@1", "changed@2", "new@2"]);
        let mut messages: Vec<_> = stores.diagnostics().map(|diagnostic| diagnostic.message.clone()).collect();
        messages.sort();
        assert_eq!(messages, ["bad", "bad; the previous version stays in force"]);
    }
}
