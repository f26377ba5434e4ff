//! What is in the file: a line that says what it is, whose, and how to tell that it is whole; then a line for each object.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::disk;
use crate::{
    config::limits::STATE_BYTES,
    source::{
        object::{Kind, Object},
        stores::List,
    },
};

/// What the first line says it is.
const FORMAT: &str = "nodegate-state";
/// Of the lines behind it. A file of another one isn't read.
const VERSION: u32 = 1;

/// Which cluster something is from: its API server's address, and a digest of each authority that vouches for it. Inside of clusters the addresses are all the
/// same, outside the authorities may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::source) struct Origin {
    url: String,
    authorities: Vec<String>,
}

impl Origin {
    pub(in crate::source) fn of(url: &http::Uri, authorities: Option<&[Vec<u8>]>) -> Self {
        let authorities = authorities.unwrap_or_default().iter().map(|authority| sha256(&[authority])).collect();
        Self { url: url.to_string(), authorities }
    }

    /// Whether it may be the same cluster: authorities are replaced one after the other.
    fn may_be(&self, other: &Self) -> bool {
        let shared = self.authorities.iter().any(|authority| other.authorities.contains(authority));
        self.url == other.url && (shared || (self.authorities.is_empty() && other.authorities.is_empty()))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    /// Seconds since 1970.
    written: u64,
    origin: Origin,
    /// What was watched.
    lists: Vec<String>,
    /// Of what follows.
    bytes: usize,
    /// Of this line without it, and of what follows.
    sha256: String,
}

/// What the first line of any version has.
#[derive(Deserialize)]
struct Kindred {
    format: String,
    version: u32,
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) objects: Vec<Object>,
    pub(super) written: SystemTime,
}

/// Why a file can't be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unusable {
    #[error("is damaged: {0}")]
    Damaged(String),
    #[error("is of version {0}, where this Nodegate reads version {VERSION}")]
    Version(u32),
    #[error("is of another cluster")]
    Foreign,
    #[error("was made when {0} wasn't watched")]
    Narrow(String),
}

/// The first line, and the others.
pub(super) fn encode(objects: &[Object], origin: &Origin, lists: &[List], now: SystemTime) -> io::Result<[Vec<u8>; 2]> {
    let mut body = Vec::new();
    for object in objects {
        match object {
            Object::Ingress(object) => line(&mut body, Kind::Ingress, object),
            Object::IngressClass(object) => line(&mut body, Kind::IngressClass, object),
            Object::Service(object) => line(&mut body, Kind::Service, object),
            Object::EndpointSlice(object) => line(&mut body, Kind::EndpointSlice, object),
            Object::Secret(object) => line(&mut body, Kind::Secret, object),
        }?;
        // Before all of it is in the memory.
        if body.len() > STATE_BYTES {
            return Err(disk::too_large());
        }
    }
    let mut header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        written: now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs(),
        origin: origin.clone(),
        lists: lists.iter().map(ToString::to_string).collect(),
        bytes: body.len(),
        sha256: String::new(),
    };
    header.sha256 = sha256(&[&serde_json::to_vec(&header)?, &body]);
    let mut first = serde_json::to_vec(&header)?;
    first.push(b'\n');
    Ok([first, body])
}

fn line<K: Serialize>(out: &mut Vec<u8>, kind: Kind, object: &Arc<K>) -> io::Result<()> {
    write!(out, "{} ", kind.name())?;
    serde_json::to_writer(&mut *out, &**object)?;
    out.push(b'\n');
    Ok(())
}

/// What is in a file that is to stand for these lists of that cluster. `None`: of whichever it is.
pub(super) fn decode(bytes: &[u8], origin: Option<&Origin>, lists: &[List]) -> Result<Contents, Unusable> {
    let damaged = |what: &str| Unusable::Damaged(what.to_owned());
    let split = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no first line"))?;
    let (first, body) = bytes.split_at(split);
    let body = body.get(1..).unwrap_or_default();
    let kindred: Kindred = serde_json::from_slice(first).map_err(|_| damaged("its first line isn't ours"))?;
    if kindred.format != FORMAT {
        return Err(damaged("its first line isn't ours"));
    }
    if kindred.version != VERSION {
        return Err(Unusable::Version(kindred.version));
    }
    let mut header: Header = serde_json::from_slice(first).map_err(|error| Unusable::Damaged(error.to_string()))?;
    if header.bytes != body.len() {
        return Err(Unusable::Damaged(format!("it has {} bytes of {}", body.len(), header.bytes)));
    }
    let told = std::mem::take(&mut header.sha256);
    let unsigned = serde_json::to_vec(&header).map_err(|error| Unusable::Damaged(error.to_string()))?;
    if told != sha256(&[&unsigned, body]) {
        return Err(damaged("its checksum is wrong"));
    }
    if !origin.is_none_or(|origin| header.origin.may_be(origin)) {
        return Err(Unusable::Foreign);
    }
    let text = str::from_utf8(body).map_err(|_| damaged("it isn't UTF-8"))?;
    // Secrets may have been left out on purpose.
    let missing = lists.iter().find(|list| list.kind != Kind::Secret && !has(&header.lists, list));
    if let Some(list) = missing {
        return Err(Unusable::Narrow(list.to_string()));
    }
    let objects = text.lines().map(object).collect::<Result<_, _>>().map_err(Unusable::Damaged)?;
    let written = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(header.written)).ok_or_else(|| damaged("it is from no time"))?;
    Ok(Contents { objects, written })
}

/// Whether one of its lines may be a Secret, however damaged the others are.
pub(super) fn may_hold_secrets(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\nSecret ").is_some()
}

/// Whether a list was watched, or one that has all of it.
fn has(watched: &[String], list: &List) -> bool {
    let all = List { kind: list.kind, namespace: None };
    watched.iter().any(|one| *one == list.to_string() || *one == all.to_string())
}

fn object(line: &str) -> Result<Object, String> {
    let (kind, json) = line.split_once(' ').ok_or("a line has no kind")?;
    match Kind::ALL.into_iter().find(|known| known.name() == kind) {
        Some(Kind::Ingress) => parse(json, Object::Ingress),
        Some(Kind::IngressClass) => parse(json, Object::IngressClass),
        Some(Kind::Service) => parse(json, Object::Service),
        Some(Kind::EndpointSlice) => parse(json, Object::EndpointSlice),
        Some(Kind::Secret) => parse(json, Object::Secret),
        None => Err(format!("it holds a {kind}")),
    }
    .map_err(|error| format!("{kind}: {error}"))
}

/// As it was written: what isn't read was left out then.
fn parse<K: DeserializeOwned>(json: &str, object: fn(Arc<K>) -> Object) -> Result<Object, String> {
    serde_json::from_str(json).map(|parsed| object(Arc::new(parsed))).map_err(|error| error.to_string())
}

fn sha256(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    HEXLOWER.encode(context.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::object::Stored;
    use k8s_openapi::api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    };
    use serde_json::json;

    fn everything() -> Vec<Object> {
        fn one<K: Stored + DeserializeOwned>(more: &serde_json::Value) -> Object {
            let keeper = json!({"manager": "m", "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}});
            let mut value =
                json!({"metadata": {"name": "x", "namespace": "n", "uid": "u", "resourceVersion": "7", "managedFields": [keeper]}});
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<K>(value).unwrap().into_object()
        }
        vec![
            one::<Ingress>(&json!({"spec": {"rules": [{"host": "a\n.example"}]}})),
            one::<IngressClass>(&json!({"spec": {"controller": "c"}})),
            one::<Service>(&json!({"spec": {"clusterIP": "192.0.2.1"}})),
            one::<EndpointSlice>(&json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.2"]}]})),
            one::<Secret>(&json!({"data": {"tls.key": "AAECAw=="}})),
        ]
    }

    fn origin(authority: &str) -> Origin {
        Origin::of(&http::Uri::from_static("https://192.0.2.3"), Some(&[authority.as_bytes().to_vec()]))
    }

    fn lists(namespace: Option<&str>) -> Vec<List> {
        Kind::ALL.map(|kind| List { kind, namespace: namespace.map(Into::into) }).into()
    }

    fn file(lists: &[List]) -> Vec<u8> {
        encode(&everything(), &origin("ours"), lists, SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000)).unwrap().concat()
    }

    fn unusable(bytes: &[u8], origin: &Origin, lists: &[List]) -> Unusable {
        decode(bytes, Some(origin), lists).map(|contents| contents.objects.len()).unwrap_err()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let Contents { objects, written } = decode(&file(&lists(None)), Some(&origin("ours")), &lists(None)).unwrap();
        assert_eq!(written, SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000));
        assert_eq!(format!("{objects:?}"), format!("{:?}", everything()));
        let none = encode(&[], &origin("ours"), &lists(None), SystemTime::now()).unwrap().concat();
        assert!(decode(&none, Some(&origin("ours")), &lists(None)).unwrap().objects.is_empty(), "an empty cluster is one, too");
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let whole = file(&lists(None));
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            assert!(decode(cut, Some(&origin("ours")), &lists(None)).is_err(), "{length} bytes of {}", whole.len());
        }
        let body = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            let found = unusable(&damaged, &origin("ours"), &lists(None));
            let is_version = at < body && matches!(found, Unusable::Version(_));
            assert!(is_version || matches!(found, Unusable::Damaged(_)), "at {at}: {found:?}");
        }
        let ancient = encode(&[], &origin("ours"), &lists(None), SystemTime::UNIX_EPOCH).unwrap().concat();
        let endless = String::from_utf8(ancient).unwrap().replacen("\"written\":0", &format!("\"written\":{}", u64::MAX), 1);
        assert!(matches!(unusable(endless.as_bytes(), &origin("ours"), &lists(None)), Unusable::Damaged(_)), "nor is it a panic");
        for other in ["", "\n", "{}\n", "{\"format\":\"tar\",\"version\":1}\n", "\0\0\0\n\0"] {
            assert!(matches!(unusable(other.as_bytes(), &origin("ours"), &lists(None)), Unusable::Damaged(_)), "{other:?}");
        }
    }

    #[test]
    fn other_versions_clusters_and_lists_are_told_apart() {
        let whole = file(&lists(Some("n")));
        let text = String::from_utf8(whole.clone()).unwrap().replacen("\"version\":1", "\"version\":2", 1);
        assert_eq!(unusable(text.as_bytes(), &origin("ours"), &lists(Some("n"))), Unusable::Version(2));
        assert_eq!(unusable(&whole, &origin("theirs"), &lists(Some("n"))), Unusable::Foreign);
        let elsewhere = Origin::of(&http::Uri::from_static("https://192.0.2.4"), Some(&[b"ours".to_vec()]));
        assert_eq!(unusable(&whole, &elsewhere, &lists(Some("n"))), Unusable::Foreign);
        let rotated = Origin::of(&http::Uri::from_static("https://192.0.2.3"), Some(&[b"next".to_vec(), b"ours".to_vec()]));
        assert!(decode(&whole, Some(&rotated), &lists(Some("n"))).is_ok(), "an authority beside the one that is known");
        for (wanted, expected) in [(None, "Ingress"), (Some("m"), "Ingress in m")] {
            assert_eq!(unusable(&whole, &origin("ours"), &lists(wanted)), Unusable::Narrow(expected.into()));
        }
        let all = file(&lists(None));
        assert!(decode(&all, Some(&origin("ours")), &lists(Some("n"))).is_ok(), "all namespaces have this one in them");
        let without: Vec<List> = lists(None).into_iter().filter(|list| list.kind != Kind::Secret).collect();
        assert!(decode(&file(&without), Some(&origin("ours")), &lists(None)).is_ok(), "Secrets may be missing");
    }
}
