//! Raw watch events into changes. A list counts only as a whole: what it brings in pieces is gathered until its end, and meanwhile nothing is lost.

use std::{fmt::Debug, sync::Arc};

use kube::{Resource, core::DeserializeGuard, runtime::watcher::Event};

use crate::{
    compile::{Diagnostic, Severity, Subject},
    source::{
        object::{Key, Stored},
        stores::{Change, List, Version},
    },
};

/// One watch's progress.
#[derive(Debug)]
pub(super) struct Feed {
    list: List,
    /// What the list under way has brought so far.
    gathered: Vec<Version>,
}

impl Feed {
    /// Nothing was seen yet.
    pub(super) fn new(list: List) -> Self {
        Self { list, gathered: Vec::new() }
    }

    /// What is watched.
    pub(super) fn list(&self) -> &List {
        &self.list
    }

    /// What an event means for the stores; nothing while a list is under way.
    pub(super) fn take<K: Resource<DynamicType = ()> + Stored>(&mut self, event: Event<DeserializeGuard<K>>) -> Option<Change> {
        match event {
            Event::Apply(object) => Some(Change::Upsert(version(object))),
            Event::Delete(object) => Some(Change::Delete(Key::of(K::KIND, object.meta()))),
            Event::Init => {
                self.gathered.clear();
                None
            }
            Event::InitApply(object) => {
                self.gathered.push(version(object));
                None
            }
            // Objects deleted during a disconnect show only here, by their absence.
            Event::InitDone => Some(Change::ReplaceAll { list: self.list.clone(), versions: std::mem::take(&mut self.gathered) }),
        }
    }
}

/// An object as it came, decoded or not.
pub(super) fn version<K: Stored>(object: DeserializeGuard<K>) -> Version {
    match object.0 {
        Ok(object) => Version::Decoded(object.into_object()),
        Err(invalid) => {
            let key = Key::of(K::KIND, &invalid.metadata);
            let subject =
                Subject::Object { kind: K::KIND.name(), namespace: key.namespace.clone(), name: key.name.clone(), field: String::new() };
            let message = format!("can't be understood: {}", invalid.error);
            let help = format!("compare it with apiVersion {}", K::KIND.api_version());
            Version::Undecodable {
                key,
                uid: invalid.metadata.uid.map(Arc::from),
                resource_version: invalid.metadata.resource_version,
                problem: Box::new(Diagnostic { severity: Severity::Error, code: "undecodable", subject, message, help }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{object::Kind, stores::Stores};
    use k8s_openapi::api::networking::v1::Ingress;
    use serde_json::json;

    fn object(name: &str, spec: &serde_json::Value) -> DeserializeGuard<Ingress> {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})).unwrap()
    }

    fn good(name: &str) -> DeserializeGuard<Ingress> {
        let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}});
        object(name, &json!({"rules": [{"host": "a.example", "http": {"paths": [path]}}]}))
    }

    fn names(stores: &Stores) -> Vec<String> {
        let mut names: Vec<_> = stores.objects().ingresses.iter().map(|ingress| ingress.metadata.name.clone().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_list_drops_nothing_before_its_end_and_what_it_lacks_at_its_end() {
        let list = List { kind: Kind::Ingress, namespace: None };
        let (mut feed, mut stores) = (Feed::new(list.clone()), Stores::new([list]));
        let mut step = |event| {
            if let Some(change) = feed.take(event) {
                stores.apply(change);
            }
            (stores.complete(), names(&stores).join(" "))
        };
        let cases = [
            (Event::Init, false, ""),
            (Event::InitApply(good("a")), false, ""),
            (Event::InitApply(good("b")), false, ""),
            (Event::InitDone, true, "a b"),
            (Event::Apply(good("c")), true, "a b c"),
            (Event::Delete(good("a")), true, "b c"),
            (Event::Init, true, "b c"),
            (Event::InitApply(good("x")), true, "b c"),
            // The connection broke in the middle of the list: it begins again.
            (Event::Init, true, "b c"),
            (Event::InitApply(object("b", &json!({"rules": "nonsense"}))), true, "b c"),
            (Event::InitDone, true, "b"),
        ];
        for (at, (event, complete, expected)) in cases.into_iter().enumerate() {
            assert_eq!(step(event), (complete, expected.to_owned()), "step {at}");
        }
        let messages: Vec<_> = stores.diagnostics().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 1);
        assert!(messages[0].starts_with("error[undecodable] Ingress n/b: can't be understood:"), "{messages:?}");
        assert!(messages[0].contains("the previous version stays in force"), "{messages:?}");
    }
}
