//! Which object a document is about.

use serde_json::Value;

use crate::source::object::{Key, Kind};

/// What `apiVersion` and `kind` say.
pub(super) enum Recognised {
    /// One that is read.
    Kind(Kind),
    /// One that is read, in a version that isn't.
    OtherVersion(Kind),
    /// In a group of ours, but no kind of it: a slip of the pen that would otherwise go unnoticed.
    Misspelt,
    /// Somebody else's.
    Other,
}

pub(super) fn recognise(api_version: &str, kind: &str) -> Recognised {
    let group = |api_version: &str| api_version.rsplit_once('/').map_or_else(String::new, |(group, _)| group.to_owned());
    let given = group(api_version);
    for known in Kind::ALL {
        let ours = given == group(known.api_version()) || (known == Kind::Ingress && given == "extensions");
        match (ours, kind == known.name(), api_version == known.api_version()) {
            (true, true, true) => return Recognised::Kind(known),
            (true, true, false) => return Recognised::OtherVersion(known),
            _ => {}
        }
    }
    let lower = kind.to_ascii_lowercase();
    let resembles = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    match given.as_str() {
        "networking.k8s.io" if resembles(&["ing", "gress"]) => Recognised::Misspelt,
        "discovery.k8s.io" if resembles(&["end", "slice"]) => Recognised::Misspelt,
        _ => Recognised::Other,
    }
}

/// What a typed list such as `IngressList` is a list of.
pub(super) fn list_item(api_version: &str, kind: &str) -> Option<Kind> {
    let item = kind.strip_suffix("List")?;
    Kind::ALL.into_iter().find(|known| known.name() == item && known.api_version() == api_version)
}

/// The object's identity, if it has one. Without a namespace it is in `default`, where `kubectl apply` would put it.
pub(super) fn key(kind: Kind, value: &Value) -> Option<Key> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let namespace = match metadata.get("namespace") {
        _ if !kind.namespaced() => "",
        None | Some(Value::Null) => "default",
        Some(namespace) => Some(namespace.as_str()?).filter(|namespace| !namespace.is_empty()).unwrap_or("default"),
    };
    Some(Key { kind, namespace: namespace.into(), name: name.into() })
}
