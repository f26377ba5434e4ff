//! How far the lists of Ingresses have been taken in, told by the versions of the objects: numbers that grow with every write. No I/O.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use super::{
    object::Kind,
    stores::{Change, Version},
};

/// For each list of Ingresses, by namespace (empty: the list of all), the highest `resourceVersion` of an object that was taken in since the list was last
/// read as a whole. Whoever has seen it has seen every earlier version of an object in that list, since a watch tells versions in their order; but only of
/// that one resource type, and of one cluster (KEP-5504, "Comparable Resource Version").
///
/// It may go back: what is listed anew counts as it is, since a cluster may have been set back to a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<Arc<str>, Reach>);

/// How far one list was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Up to this version; 0 for a list without objects.
    To(u128),
    /// An object's version is no number, so that nobody can compare it.
    Unknown,
}

/// What a coverage says of one version of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    /// It was taken in, or a later one was.
    Yes,
    /// It wasn't yet.
    No,
    /// There is no list that the object could be in: its namespace isn't watched, or nothing was listed yet.
    Unwatched,
    /// The versions of that list are no numbers.
    Unknown,
}

impl Coverage {
    /// Takes note of what has happened to the stores.
    pub(super) fn take(&mut self, change: &Change) {
        match change {
            Change::ReplaceAll { list, versions } if list.kind == Kind::Ingress => {
                let reach = versions.iter().map(reach).max().unwrap_or(Reach::To(0));
                self.0.insert(list.namespace.clone().unwrap_or_default(), reach);
            }
            Change::Upsert(version) if kind(version) == Kind::Ingress => {
                if let Some(known) = self.list_of(&version.key().namespace) {
                    *known = (*known).max(reach(version));
                }
            }
            // A deletion has a version, too; but nobody waits for one.
            Change::ReplaceAll { .. } | Change::Upsert(_) | Change::Delete(_) => {}
        }
    }

    /// Whether this version of an object of that namespace was taken in.
    pub fn covers(&self, namespace: &str, version: u128) -> Covers {
        match self.0.get("").or_else(|| self.0.get(namespace)) {
            None => Covers::Unwatched,
            Some(Reach::Unknown) => Covers::Unknown,
            Some(Reach::To(reached)) if *reached >= version => Covers::Yes,
            Some(Reach::To(_)) => Covers::No,
        }
    }

    fn list_of(&mut self, namespace: &str) -> Option<&mut Reach> {
        let list = if self.0.contains_key("") { "" } else { namespace };
        self.0.get_mut(list)
    }
}

fn kind(version: &Version) -> Kind {
    match version {
        Version::Decoded(object) => object.kind(),
        Version::Undecodable { key, .. } => key.kind,
    }
}

fn reach(version: &Version) -> Reach {
    let resource_version = match version {
        Version::Decoded(object) => object.resource_version(),
        Version::Undecodable { resource_version, .. } => resource_version.as_deref(),
    };
    resource_version.and_then(number).map_or(Reach::Unknown, Reach::To)
}

/// A `resourceVersion` as the number that it is, where it is one.
pub fn number(resource_version: &str) -> Option<u128> {
    // A sign, which the standard library takes, is none of it.
    resource_version.bytes().all(|byte| byte.is_ascii_digit()).then(|| resource_version.parse().ok()).flatten()
}

/// Such as `118`, or where namespaces are watched `api=118,shop=97`; `?` in the place of what is unknown.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (namespace, reach)) in self.0.iter().enumerate() {
            let (comma, sign) = (if at == 0 { "" } else { "," }, if namespace.is_empty() { "" } else { "=" });
            match reach {
                Reach::To(version) => write!(f, "{comma}{namespace}{sign}{version}")?,
                Reach::Unknown => write!(f, "{comma}{namespace}{sign}?")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Coverage {
    type Err = NoCoverage;

    fn from_str(text: &str) -> Result<Self, NoCoverage> {
        let one = |part: &str| {
            let (namespace, version) = part.split_once('=').unwrap_or(("", part));
            let reach = if version == "?" { Reach::Unknown } else { Reach::To(number(version).ok_or(NoCoverage)?) };
            Ok((Arc::from(namespace), reach))
        };
        text.split(',').filter(|part| !part.is_empty()).map(one).collect::<Result<_, _>>().map(Self)
    }
}

/// A text that no [`Coverage`] is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected resourceVersions, such as 118 or shop=118,api=97")]
pub struct NoCoverage;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{
        object::{Key, Stored},
        stores::List,
    };
    use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
    use serde_json::json;

    fn ingress(namespace: &str, version: &str) -> Version {
        let value = json!({"metadata": {"namespace": namespace, "name": "web", "resourceVersion": version}});
        Version::Decoded(serde_json::from_value::<Ingress>(value).unwrap().into_object())
    }

    fn list(namespace: Option<&str>, versions: Vec<Version>) -> Change {
        Change::ReplaceAll { list: List { kind: Kind::Ingress, namespace: namespace.map(Into::into) }, versions }
    }

    fn after(changes: impl IntoIterator<Item = Change>) -> Coverage {
        let mut coverage = Coverage::default();
        changes.into_iter().for_each(|change| coverage.take(&change));
        coverage
    }

    #[test]
    fn it_grows_with_what_is_watched_and_is_what_a_list_says_even_where_that_is_less() {
        let first = || list(None, vec![ingress("n", "7"), ingress("m", "12")]);
        let cases = [
            ("a list", vec![first()], "12"),
            ("a list without objects", vec![list(None, vec![])], "0"),
            ("a later version", vec![first(), Change::Upsert(ingress("n", "100"))], "100"),
            ("an older one, which a watch never tells", vec![first(), Change::Upsert(ingress("n", "9"))], "12"),
            ("a backup", vec![first(), Change::Upsert(ingress("n", "100")), list(None, vec![ingress("n", "8")])], "8"),
            ("a deletion", vec![first(), Change::Delete(Key { kind: Kind::Ingress, namespace: "n".into(), name: "web".into() })], "12"),
            ("no number", vec![first(), Change::Upsert(ingress("n", "1a"))], "?"),
            ("nor after it, until a list", vec![first(), Change::Upsert(ingress("n", "1a")), Change::Upsert(ingress("n", "50"))], "?"),
            ("a list that knows better", vec![list(None, vec![ingress("n", "-1")]), first()], "12"),
            ("nothing before a list", vec![Change::Upsert(ingress("n", "5"))], ""),
        ];
        for (case, changes, expected) in cases {
            assert_eq!(after(changes).to_string(), expected, "{case}");
        }
    }

    #[test]
    fn other_kinds_have_no_say() {
        let value = json!({"metadata": {"namespace": "n", "name": "web", "resourceVersion": "999"}});
        let service = || Version::Decoded(serde_json::from_value::<Service>(value.clone()).unwrap().into_object());
        let services = Change::ReplaceAll { list: List { kind: Kind::Service, namespace: None }, versions: vec![service()] };
        let coverage = after([list(None, vec![ingress("n", "3")]), Change::Upsert(service()), services]);
        assert_eq!(coverage.to_string(), "3");
    }

    #[test]
    fn each_watched_namespace_has_a_version_of_its_own() {
        let coverage = after([
            list(Some("shop"), vec![ingress("shop", "20")]),
            list(Some("api"), vec![ingress("api", "10")]),
            Change::Upsert(ingress("api", "30")),
        ]);
        assert_eq!(coverage.to_string(), "api=30,shop=20");
        let cases = [("api", 30, Covers::Yes), ("api", 31, Covers::No), ("shop", 21, Covers::No), ("other", 1, Covers::Unwatched)];
        for (namespace, version, expected) in cases {
            assert_eq!(coverage.covers(namespace, version), expected, "{namespace} {version}");
        }
        assert_eq!(after([]).covers("shop", 1), Covers::Unwatched);
        let everywhere = after([list(None, vec![ingress("shop", "20")])]);
        assert_eq!((everywhere.covers("any", 20), everywhere.covers("any", 21)), (Covers::Yes, Covers::No));
        assert_eq!(after([list(None, vec![ingress("shop", "x")])]).covers("shop", 1), Covers::Unknown);
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        for text in ["", "0", "118", "?", "api=118,shop=97", "api=?,shop=97", "340282366920938463463374607431768211455"] {
            assert_eq!(text.parse::<Coverage>().map(|coverage| coverage.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["-1", "+1", "1.5", "shop=", "a=b=1", "340282366920938463463374607431768211456"] {
            assert_eq!(wrong.parse::<Coverage>(), Err(NoCoverage), "{wrong}");
        }
    }
}
