//! Which objects diagnostics are about: a diagnostic names an object, an Event has to say which of all that ever had this name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    compile::{Diagnostic, Incremental, Subject},
    source::{
        Identity, ObjectName,
        object::{Key, Kind},
    },
};

/// The identities of what `findings` are about, and of what was in `known`, as far as these are among the `objects` that are compiled. `held` are those
/// whose newest version is not.
pub(super) fn identify(
    objects: &Incremental,
    held: &[(Key, Arc<str>)],
    known: &BTreeMap<ObjectName, Identity>,
    findings: &BTreeSet<Diagnostic>,
) -> BTreeMap<ObjectName, Identity> {
    let wanted: HashSet<ObjectName> = findings.iter().filter_map(subject).chain(known.keys().cloned()).collect();
    let held: HashMap<(&str, &str, &str), &Arc<str>> =
        held.iter().map(|(Key { kind, namespace, name }, uid)| ((kind.name(), &**namespace, &**name), uid)).collect();
    let identified = wanted.into_iter().filter_map(|name| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name.kind)?;
        // The newer version may be of another object, which was given the name of the one in force.
        let newer = held.get(&(name.kind, &*name.namespace, &*name.name)).map(|uid| Arc::clone(uid));
        let in_force = || objects.metadata(name.kind, &name.namespace, &name.name)?.uid.as_deref().map(Arc::from);
        let uid = newer.or_else(in_force)?;
        Some((name, Identity { api_version: kind.api_version(), uid }))
    });
    identified.collect()
}

fn subject(finding: &Diagnostic) -> Option<ObjectName> {
    match &finding.subject {
        Subject::Object { kind, namespace, name, field: _ } => {
            Some(ObjectName { kind, namespace: Arc::clone(namespace), name: Arc::clone(name) })
        }
        Subject::File { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::{Delta, Edit, Options},
        route::Snapshot,
    };
    use jiff::Timestamp;
    use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
    use serde_json::json;

    fn ingress(name: &str, uid: Option<&str>) -> Edit<Ingress> {
        Edit::Put(Arc::new(serde_json::from_value(json!({"metadata": {"namespace": "n", "name": name, "uid": uid}})).unwrap()))
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
        let mut objects = Incremental::new(Options::default());
        let change = |objects: &mut Incremental, classes, ingresses| {
            drop(objects.compile(Delta { ingresses, classes, ..Delta::default() }, &Snapshot::default(), Timestamp::UNIX_EPOCH));
        };
        let ingresses = vec![ingress("good", Some("u1")), ingress("bad", Some("u2")), ingress("from-a-file", None)];
        change(&mut objects, vec![Edit::Put(Arc::new(class))], ingresses);
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
        change(&mut objects, Vec::new(), vec![ingress("bad", Some("u5"))]);
        assert_eq!(shown(&identify(&objects, &[], &second, &BTreeSet::new())), ["networking.k8s.io/v1 Ingress n/bad u5", class]);
        let gone = |namespace: &str, name: &str| (Arc::from(namespace), Arc::from(name));
        let ((namespace, name), (none, class)) = (gone("n", "bad"), gone("", "c"));
        change(&mut objects, vec![Edit::Remove { namespace: none, name: class }], vec![Edit::Remove { namespace, name }]);
        assert_eq!(shown(&identify(&objects, &[], &second, &BTreeSet::new())), Vec::<String>::new());
    }
}
