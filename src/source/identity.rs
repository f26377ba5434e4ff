//! Which objects diagnostics are about: a diagnostic names an object, an Event has to say which of all that ever had this name.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use k8s_openapi::{Metadata, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::{
    compile::{Diagnostic, Objects, Subject},
    source::{
        Identity, ObjectName,
        object::{Key, Kind},
    },
};

/// Kind, namespace, name.
type Name<'a> = (&'static str, &'a str, &'a str);

/// The identities of what `findings` are about, and of what was in `known`, as far as these objects exist. `held` are those whose newest version is not among
/// the `objects`.
pub(super) fn identify(
    objects: &Objects,
    held: &[(Key, Arc<str>)],
    known: &BTreeMap<ObjectName, Identity>,
    findings: &BTreeSet<Diagnostic>,
) -> BTreeMap<ObjectName, Identity> {
    let mut wanted: HashSet<Name<'_>> = findings.iter().filter_map(subject).collect();
    wanted.extend(known.keys().map(|name| (name.kind, &*name.namespace, &*name.name)));
    let mut found = Found { wanted, identities: BTreeMap::new() };
    if found.wanted.is_empty() {
        return found.identities;
    }
    let Objects { ingresses, classes, services, slices, secrets } = objects;
    found.add(Kind::Ingress, ingresses);
    found.add(Kind::IngressClass, classes);
    found.add(Kind::Service, services);
    found.add(Kind::EndpointSlice, slices);
    found.add(Kind::Secret, secrets);
    // Last: the newer version may be of another object, which was given the name of the one in force.
    for (Key { kind, namespace, name }, uid) in held {
        found.one(*kind, namespace, name, uid);
    }
    found.identities
}

fn subject(finding: &Diagnostic) -> Option<Name<'_>> {
    match &finding.subject {
        Subject::Object { kind, namespace, name, field: _ } => Some((kind, namespace, name)),
        Subject::File { .. } => None,
    }
}

struct Found<'a> {
    wanted: HashSet<Name<'a>>,
    identities: BTreeMap<ObjectName, Identity>,
}

impl Found<'_> {
    fn add<T: Metadata<Ty = ObjectMeta>>(&mut self, kind: Kind, objects: &[Arc<T>]) {
        for metadata in objects.iter().map(|object| object.metadata()) {
            let ObjectMeta { namespace, name, uid, .. } = metadata;
            if let (Some(name), Some(uid)) = (name, uid) {
                self.one(kind, namespace.as_deref().unwrap_or_default(), name, uid);
            }
        }
    }

    fn one(&mut self, kind: Kind, namespace: &str, name: &str, uid: &str) {
        if self.wanted.contains(&(kind.name(), namespace, name)) {
            let name = ObjectName { kind: kind.name(), namespace: namespace.into(), name: name.into() };
            self.identities.insert(name, Identity { api_version: kind.api_version(), uid: uid.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
    use serde_json::json;

    fn ingress(name: &str, uid: Option<&str>) -> Arc<Ingress> {
        Arc::new(serde_json::from_value(json!({"metadata": {"namespace": "n", "name": name, "uid": uid}})).unwrap())
    }

    fn finding(kind: &'static str, namespace: &str, name: &str) -> Diagnostic {
        Diagnostic::error("code", Subject::Object { kind, namespace: namespace.into(), name: name.into(), field: String::new() }, "m", "h")
    }

    fn shown(identities: &BTreeMap<ObjectName, Identity>) -> Vec<String> {
        let one = |(name, identity): (&ObjectName, &Identity)| {
            format!("{} {} {}/{} {}", identity.api_version, name.kind, name.namespace, name.name, identity.uid)
        };
        identities.iter().map(one).collect()
    }

    #[test]
    fn what_has_or_had_a_finding_is_known_for_as_long_as_it_exists() {
        let class = serde_json::from_value::<IngressClass>(json!({"metadata": {"name": "c", "uid": "u4"}})).unwrap();
        let mut objects = Objects { classes: vec![Arc::new(class)], ..Objects::default() };
        objects.ingresses = vec![ingress("good", Some("u1")), ingress("bad", Some("u2")), ingress("from-a-file", None)];
        let held = [(Key { kind: Kind::Service, namespace: "n".into(), name: "odd".into() }, Arc::from("u3"))];
        let findings = BTreeSet::from([
            finding("Ingress", "n", "bad"),
            finding("Ingress", "n", "gone"),
            finding("Ingress", "n", "from-a-file"),
            finding("Service", "n", "odd"),
            finding("IngressClass", "", "c"),
        ]);
        let first = identify(&objects, &held, &BTreeMap::new(), &findings);
        let [bad, class, odd] = ["networking.k8s.io/v1 Ingress n/bad u2", "networking.k8s.io/v1 IngressClass /c u4", "v1 Service n/odd u3"];
        assert_eq!(shown(&first), [bad, class, odd]);

        // Mended, but still here.
        let second = identify(&objects, &[], &first, &BTreeSet::new());
        assert_eq!(shown(&second), [bad, class]);
        // Another one of that name; then none.
        objects.ingresses = vec![ingress("bad", Some("u5"))];
        assert_eq!(shown(&identify(&objects, &[], &second, &BTreeSet::new())), ["networking.k8s.io/v1 Ingress n/bad u5", class]);
        assert_eq!(shown(&identify(&Objects::default(), &[], &second, &BTreeSet::new())), Vec::<String>::new());
    }
}
