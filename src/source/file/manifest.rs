//! The text of one file into versions of objects and diagnostics. No I/O.

mod recognise;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use self::recognise::{Recognised, key, list_item, recognise};
use crate::{
    compile::{Diagnostic, Severity, Subject},
    config::limits::{MANIFEST_ALIASED, MANIFEST_NODES},
    source::{
        file::{
            document::{self, Document},
            lines::Lines,
        },
        object::{Key, Kind, Stored},
        stores::Version,
    },
};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A stream of documents.
    Yaml,
    /// One value, by the rules of JSON, which YAML's differ from in tabs and long keys.
    Json,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// The objects it defines, in its order; it may define one twice.
    pub definitions: Vec<Definition>,
    /// What is wrong with it, apart from versions that can't be decoded.
    pub problems: Vec<Diagnostic>,
    /// Whether some of it is so broken that nobody can tell which objects it is about.
    pub malformed: bool,
}

/// One object in a file.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    /// Which object.
    pub key: Key,
    /// What it is.
    pub version: Version,
    /// Where it stands.
    pub at: Position,
    /// The document's fingerprint, if it holds this object alone, and nothing wrong.
    pub text: Option<u64>,
}

/// What was read of a file's documents before, by [`Definition::text`]: those that haven't changed need no second reading. In a file of ten thousand
/// Ingresses an edit touches few.
pub(super) type Earlier<'a> = HashMap<u64, &'a Definition, RandomState>;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The document.
    pub document: usize,
    /// The line on which the document has its first content.
    pub line: usize,
}

/// The text of one file.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub path: Arc<str>,
    pub content: &'a str,
    pub format: Format,
    pub earlier: Earlier<'a>,
}

impl Text<'_> {
    /// Its parts, which can be read in any order.
    pub(super) fn documents(&self) -> Vec<Document<'_>> {
        match self.format {
            Format::Json => vec![Document { number: 1, line: 1, text: self.content, fingerprint: 0 }],
            Format::Yaml => document::split(self.content),
        }
    }

    /// Whether a document was read before.
    pub(super) fn knows(&self, document: Document<'_>) -> bool {
        self.earlier.contains_key(&document.fingerprint)
    }

    /// Reads one of its documents. Kinds that the proxy has no use for are passed over in silence.
    pub(super) fn read(&self, document: Document<'_>) -> Manifest {
        let mut reader = Reader { path: &self.path, earlier: &self.earlier, manifest: Manifest::default() };
        match self.format {
            Format::Json => match serde_json::from_str(document.text) {
                Ok(value) => reader.value(value, document, &[], None),
                Err(error) => reader.malformed(Position { document: 1, line: error.line() }, &format!("not JSON: {error}")),
            },
            Format::Yaml => reader.document(document),
        }
        reader.manifest
    }
}

impl Manifest {
    /// Adds what a later document says.
    pub(super) fn append(&mut self, later: Self) {
        self.definitions.extend(later.definitions);
        self.problems.extend(later.problems);
        self.malformed |= later.malformed;
    }
}

struct Reader<'a> {
    path: &'a Arc<str>,
    earlier: &'a Earlier<'a>,
    manifest: Manifest,
}

impl Reader<'_> {
    fn document(&mut self, document: Document<'_>) {
        if let Some(known) = self.earlier.get(&document.fingerprint) {
            let at = Position { document: document.number, line: first_content(document) };
            return self.manifest.definitions.push(Definition { at, ..(*known).clone() });
        }
        self.new_document(document);
        if let [Definition { version: Version::Decoded(_), text: place, .. }] = self.manifest.definitions.as_mut_slice()
            && self.manifest.problems.is_empty()
        {
            *place = Some(document.fingerprint);
        }
    }

    fn new_document(&mut self, document: Document<'_>) {
        match serde_saphyr::from_str_with_options::<Option<Value>>(document.text, yaml_options()) {
            Ok(None | Some(Value::Null)) => {}
            Ok(Some(value)) => self.value(value, document, &[], None),
            Err(_) => {
                let (line, message) = yaml_error(document).unwrap_or((document.line, "not YAML".into()));
                self.malformed(Position { document: document.number, line }, &format!("not YAML: {message}"));
            }
        }
    }

    /// One object, or a `List` of them. `within`: the way to it through the document's lists. `implied` is the kind of a typed
    /// list's items, which may leave out their own.
    fn value(&mut self, mut value: Value, document: Document<'_>, within: &[Segment], implied: Option<Kind>) {
        let at = Position { document: document.number, line: first_content(document) };
        let api_version = value.get("apiVersion").and_then(Value::as_str).or(implied.map(Kind::api_version));
        let kind = value.get("kind").and_then(Value::as_str).or(implied.map(Kind::name));
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            let message = "not a Kubernetes object: apiVersion or kind is missing, or isn't text";
            return self.malformed(at, message);
        };
        let item = list_item(api_version, kind);
        if item.is_some() || (api_version, kind) == ("v1", "List") {
            if let Some(Value::Array(values)) = value.get_mut("items").map(Value::take) {
                for (index, value) in values.into_iter().enumerate() {
                    self.value(value, document, &[within, &[Segment::Map { key: "items".into() }, Segment::Seq { index }]].concat(), item);
                }
            }
            return;
        }
        match recognise(api_version, kind) {
            Recognised::Kind(kind) => self.object(kind, value, document, within, at),
            Recognised::OtherVersion(known) => {
                let message = format!("{kind} in version {api_version} is not supported");
                let help = format!("write apiVersion: {}", known.api_version());
                let problem = self.problem("unsupported_version", at, message, help);
                match key(known, &value) {
                    Some(key) => self.define(
                        key.clone(),
                        Version::Undecodable { key, uid: None, resource_version: None, problem: Box::new(problem) },
                        at,
                    ),
                    None => self.give_up(problem),
                }
            }
            Recognised::Misspelt => {
                let message = format!("{api_version} has no kind {kind}");
                let help = "write Ingress, IngressClass or EndpointSlice, with these capitals".into();
                let problem = self.problem("unknown_kind", at, message, help);
                self.give_up(problem);
            }
            Recognised::Other => {}
        }
    }

    fn object(&mut self, kind: Kind, mut value: Value, document: Document<'_>, within: &[Segment], at: Position) {
        let Some(key) = key(kind, &value) else {
            return self.malformed(at, &format!("{} without a metadata.name", kind.name()));
        };
        if kind == Kind::Secret && !is_of_use(&value) {
            return;
        }
        if kind.namespaced()
            && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("namespace".into(), Value::String(key.namespace.to_string()));
        }
        let place = |path: &Path| Position { line: line_of(document, within, path).unwrap_or(at.line), ..at };
        let version = match kind {
            Kind::Ingress => self.decode::<Ingress>(&key, value, place),
            Kind::IngressClass => self.decode::<IngressClass>(&key, value, place),
            Kind::Service => self.decode::<Service>(&key, value, place),
            Kind::EndpointSlice => self.decode::<EndpointSlice>(&key, value, place),
            Kind::Secret => self.decode::<Secret>(&key, value, place),
        };
        self.define(key, version, at);
    }

    fn decode<K: DeserializeOwned + Stored>(&self, key: &Key, value: Value, place: impl FnOnce(&Path) -> Position) -> Version {
        let error = match serde_path_to_error::deserialize::<_, K>(value) {
            Ok(object) => return Version::Decoded(object.into_object()),
            Err(error) => error,
        };
        let at = place(error.path());
        let message = format!("{key} can't be understood: {error}");
        let help = "compare the field with `kubectl explain`, and quote text that looks like a number or true/false".into();
        Version::Undecodable {
            key: key.clone(),
            uid: None,
            resource_version: None,
            problem: Box::new(self.problem("undecodable", at, message, help)),
        }
    }

    fn define(&mut self, key: Key, version: Version, at: Position) {
        self.manifest.definitions.push(Definition { key, version, at, text: None });
    }

    fn malformed(&mut self, at: Position, message: &str) {
        let problem = self.problem("malformed", at, message.into(), "correct it, or move it out of the directory".into());
        self.give_up(problem);
    }

    fn give_up(&mut self, problem: Diagnostic) {
        self.manifest.problems.push(problem);
        self.manifest.malformed = true;
    }

    fn problem(&self, code: &'static str, at: Position, message: String, help: String) -> Diagnostic {
        let subject = Subject::File { path: Arc::clone(self.path), document: at.document, line: at.line };
        Diagnostic { severity: Severity::Error, code, subject, message, help }
    }
}

/// Whether a Secret holds a certificate, or is meant to; or authorities.
fn is_of_use(secret: &Value) -> bool {
    let holds = |part: &str| secret.get(part).and_then(Value::as_object).is_some_and(|data| data.contains_key("ca.crt"));
    secret.get("type").and_then(Value::as_str) == Some("kubernetes.io/tls") || holds("data") || holds("stringData")
}

/// The line in the file on which the document has its first content.
fn first_content(document: Document<'_>) -> usize {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    document.text.lines().position(|line| !blank(line)).map_or(document.line, |skipped| document.line + skipped)
}

/// YAML 1.2 (no `yes` and `no`, no octal by a leading zero), duplicate keys refused, and bounded: nothing that a few lines of aliases expand to
/// may fill the memory. Text from other files can't be included.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: MANIFEST_NODES, max_events: MANIFEST_NODES * 3 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MANIFEST_ALIASED },
    }
}

/// Line and text of what is wrong with a document, if it is: a second reading, in which lines count from the file's beginning.
fn yaml_error(document: Document<'_>) -> Option<(usize, String)> {
    let error = serde_saphyr::from_str_with_options::<Option<Value>>(&in_its_place(document), yaml_options()).err()?;
    let line = error.location().and_then(|location| usize::try_from(location.line()).ok());
    let text = error.without_snippet().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Some((line.filter(|line| *line > 0).unwrap_or(document.line), text))
}

/// The line in the file of an object's field, found by reading its document once more.
fn line_of(document: Document<'_>, within: &[Segment], path: &Path) -> Option<usize> {
    let lines: Lines = serde_saphyr::from_str_with_options(&in_its_place(document), yaml_options()).ok()?;
    usize::try_from(lines.of(within.iter().chain(path))).ok().filter(|line| *line > 0)
}

/// The document as the last of its file, after blank lines.
fn in_its_place(document: Document<'_>) -> String {
    "\n".repeat(document.line.saturating_sub(1)) + document.text
}

#[cfg(test)]
mod tests;
