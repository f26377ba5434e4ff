//! Findings as Events tell them: which object, under which reason, in which words, and under which name, so that equal findings are one Event
//! whoever writes it.

use std::sync::Arc;

use crate::{
    compile::{Diagnostic, Severity, Subject},
    config::limits::EVENT_NOTE_BYTES,
    source::{ObjectName, Report},
};

/// Longest name of an object, in bytes.
const NAME_BYTES: usize = 253;

/// The code of the finding that stands for those an object has too many of.
const MORE: &str = "more_findings";

/// An object that exists, as an Event refers to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Object {
    /// Its kind, namespace and name.
    pub name: ObjectName,
    /// Such as `networking.k8s.io/v1`.
    pub api_version: &'static str,
    /// `metadata.uid`: `kubectl describe` finds an object's Events by it.
    pub uid: Arc<str>,
}

impl Object {
    /// Where its Events are: those of objects without a namespace go to `default`.
    pub(super) fn event_namespace(&self) -> &str {
        if self.name.namespace.is_empty() { "default" } else { &self.name.namespace }
    }
}

/// One finding about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The Event's name: the same for the same finding, in every process.
    pub event: Arc<str>,
    /// What it is about.
    pub object: Arc<Object>,
    /// `fieldPath`, empty for the object as a whole.
    pub field: String,
    /// The code in the spelling of reasons: `UnknownService`.
    pub reason: String,
    /// What people read.
    pub note: String,
    /// What they read once the finding is gone.
    pub fixed: String,
}

impl Finding {
    fn new(object: &Arc<Object>, code: &str, field: &str, message: &str, help: &str) -> Self {
        let what = if field.is_empty() { message.to_owned() } else { format!("{field}: {message}") };
        let note = format!("{what}; {help}");
        Self {
            event: event_name(&object.name.name, &[&object.uid, code, &note]),
            object: Arc::clone(object),
            field: field.to_owned(),
            reason: reason(code),
            note: cut(note),
            fixed: cut(format!("no longer the case: {what}")),
        }
    }

    /// What stands for the findings that an object has beyond those that have Events.
    pub(super) fn more(object: &Arc<Object>) -> Self {
        Self::new(object, MORE, "", "more is wrong with it than its Events tell", "`nodegate check --cluster` lists all of it")
    }
}

/// The findings of a report that can have Events, gathered by object. Those about files have none, nor have objects that aren't there.
pub(super) fn by_object(report: &Report) -> Vec<(Arc<Object>, Vec<Finding>)> {
    let mut groups: Vec<(Arc<Object>, Vec<Finding>)> = Vec::new();
    for Diagnostic { subject, severity, code, message, help } in report.diagnostics.iter() {
        // Event types tell only the normal from the rest.
        let (Severity::Warning | Severity::Error) = severity;
        let Subject::Object { kind, namespace, name, field } = subject else { continue };
        let name = ObjectName { kind, namespace: Arc::clone(namespace), name: Arc::clone(name) };
        // The diagnostics are sorted by object.
        let is_new = groups.last().is_none_or(|(object, _)| object.name != name);
        if is_new {
            let Some(identity) = report.identities.get(&name) else { continue };
            let object = Object { name, api_version: identity.api_version, uid: Arc::clone(&identity.uid) };
            groups.push((Arc::new(object), Vec::new()));
        }
        if let Some((object, findings)) = groups.last_mut() {
            findings.push(Finding::new(object, code, field, message, help));
        }
    }
    groups
}

/// `unknown_service` as `UnknownService`.
fn reason(code: &str) -> String {
    let words = code.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

/// At most [`EVENT_NOTE_BYTES`], ending in an ellipsis where something is missing.
fn cut(mut text: String) -> String {
    const ELLIPSIS: &str = "...";
    if text.len() > EVENT_NOTE_BYTES {
        text.truncate(text.floor_char_boundary(EVENT_NOTE_BYTES - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    text
}

/// The object's name, as is the custom, and a hash of what makes the finding.
pub(super) fn event_name(object: &str, parts: &[&str]) -> Arc<str> {
    let suffix = format!(".{:016x}", hash(parts));
    let stem = object.get(..object.floor_char_boundary(NAME_BYTES - suffix.len())).unwrap_or_default();
    // A label may end neither in a dot nor in a hyphen.
    format!("{}{suffix}", stem.trim_end_matches(['.', '-'])).into()
}

/// FNV-1a, 64 bits. The hashes of the standard library, and of faster crates, may change from one version to the next; then a new version would
/// write every Event once more.
fn hash(parts: &[&str]) -> u64 {
    // 0xff is in no text: it keeps "ab" and "c" from being "a" and "bc".
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, uid: &str) -> Arc<Object> {
        let name = ObjectName { kind: "Ingress", namespace: "n".into(), name: name.into() };
        Arc::new(Object { name, api_version: "networking.k8s.io/v1", uid: uid.into() })
    }

    #[test]
    fn reasons_are_camel_case() {
        for (code, expected) in [("unknown_service", "UnknownService"), ("conflict", "Conflict"), ("", ""), ("a__b_", "AB")] {
            assert_eq!(reason(code), expected, "{code:?}");
        }
    }

    #[test]
    fn names_are_the_same_in_every_process_and_differ_with_whatever_differs() {
        let base = Finding::new(&object("web", "u1"), "conflict", "spec", "text", "help");
        // Spelled out: another hash in a later version would write every Event once more.
        assert_eq!(&*base.event, "web.222586ec0a9368d2");
        let others = [
            Finding::new(&object("web", "u2"), "conflict", "spec", "text", "help"),
            Finding::new(&object("web", "u1"), "conflicts", "spec", "text", "help"),
            Finding::new(&object("web", "u1"), "conflict", "spec.rules", "text", "help"),
            Finding::new(&object("web", "u1"), "conflict", "spec", "text.", "help"),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(base.event, other.event, "case {at}");
        }
    }

    #[test]
    fn a_name_stays_a_name_however_long_the_objects_is() {
        let long = format!("{}.tail", "a".repeat(235));
        let finding = Finding::new(&object(&long, "u"), "conflict", "", "text", "help");
        assert_eq!(finding.event.len(), 235 + 17, "{}", finding.event);
        assert!(!finding.event.contains(".."), "{}", finding.event);
    }

    #[test]
    fn notes_are_cut_between_letters_and_say_so() {
        let finding = Finding::new(&object("web", "u"), "conflict", "", &"\u{e9}".repeat(EVENT_NOTE_BYTES), "help");
        for note in [&finding.note, &finding.fixed] {
            assert!(note.len() <= EVENT_NOTE_BYTES && note.len() > EVENT_NOTE_BYTES - 5 && note.ends_with("\u{e9}..."), "{note}");
        }
        // What tells two findings apart may be in the part that is cut off.
        let longer = Finding::new(&object("web", "u"), "conflict", "", &"\u{e9}".repeat(EVENT_NOTE_BYTES), "more help");
        assert_ne!(finding.event, longer.event);
    }
}
