//! Our own annotations: a closed world. What begins with `nodegate.dev/` and isn't known here, or can't be parsed, is a diagnostic.

mod foreign;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

pub(super) use foreign::read as read_foreign;

use super::{
    Diagnostic, Subject,
    index::{IndexedIngress, name, namespace},
};

const PREFIX: &str = "nodegate.dev/";
const DIAL: &str = "nodegate.dev/dial";
const USE_REGEX: &str = "nodegate.dev/use-regex";

/// Every annotation of ours, and where it may stand.
const KNOWN: [(&str, &[&str]); 2] = [(DIAL, &["Ingress", "Service"]), (USE_REGEX, &["Ingress"])];

/// `nodegate.dev/dial`: what a connection is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dial {
    /// The Service's ClusterIP.
    ClusterIp,
    /// The pods.
    Endpoints,
}

/// What an Ingress asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct IngressAnnotations {
    pub(super) dial: Option<Dial>,
    /// `ImplementationSpecific` paths are regular expressions.
    pub(super) use_regex: bool,
}

/// Reads an Ingress's annotations of ours.
pub(super) fn read_ingress(ingress: &IndexedIngress<'_>, diagnostics: &mut Vec<Diagnostic>) -> IngressAnnotations {
    let Some(annotations) = &ingress.object.metadata.annotations else { return IngressAnnotations::default() };
    let mut reader = Reader { kind: "Ingress", annotations, subject: &|field| Subject::ingress(&ingress.id, field), diagnostics };
    reader.check_names();
    IngressAnnotations { dial: reader.dial(), use_regex: reader.value(USE_REGEX, &[("true", true), ("false", false)]).unwrap_or_default() }
}

/// Reads a Service's annotations of ours.
pub(super) fn read_service(service: &Service, diagnostics: &mut Vec<Diagnostic>) -> Option<Dial> {
    let annotations = service.metadata.annotations.as_ref()?;
    let subject = |field| Subject::Object {
        kind: "Service",
        namespace: namespace(&service.metadata).into(),
        name: name(&service.metadata).into(),
        field,
    };
    let mut reader = Reader { kind: "Service", annotations, subject: &subject, diagnostics };
    reader.check_names();
    reader.dial()
}

struct Reader<'r> {
    kind: &'static str,
    annotations: &'r BTreeMap<String, String>,
    subject: &'r dyn Fn(String) -> Subject,
    diagnostics: &'r mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn check_names(&mut self) {
        let ours = self.annotations.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX));
        for (key, _) in ours {
            let (message, help) = match KNOWN.iter().find(|(known, _)| known == key) {
                Some((_, kinds)) if kinds.contains(&self.kind) => continue,
                Some((_, kinds)) => (format!("it has no meaning on a {}", self.kind), format!("write it on an {}", kinds.join(" or a "))),
                None => ("there is no such annotation".to_owned(), format!("did you mean `{}`?", nearest(key, self.kind))),
            };
            self.diagnostics.push(Diagnostic::error("unknown_annotation", (self.subject)(field(key)), message, help));
        }
    }

    fn dial(&mut self) -> Option<Dial> {
        self.value(DIAL, &[("clusterip", Dial::ClusterIp), ("endpoints", Dial::Endpoints)])
    }

    /// The meaning of an annotation's value; an error, and nothing, for a value that isn't in `meanings`.
    fn value<T: Copy>(&mut self, key: &str, meanings: &[(&str, T)]) -> Option<T> {
        let value = self.annotations.get(key)?;
        let found = meanings.iter().find(|(text, _)| text == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let allowed: Vec<String> = meanings.iter().map(|(text, _)| format!("\"{text}\"")).collect();
            let message = format!("`{value}` has no meaning here; the annotation is ignored");
            let help = format!("write {}", allowed.join(" or "));
            self.diagnostics.push(Diagnostic::error("bad_annotation", (self.subject)(field(key)), message, help));
        }
        found
    }
}

fn field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// The known annotation that takes the fewest edits.
fn nearest(key: &str, kind: &str) -> &'static str {
    let here = KNOWN.iter().filter(|(_, kinds)| kinds.contains(&kind)).map(|(known, _)| *known);
    here.min_by_key(|known| strsim::osa_distance(known, key)).unwrap_or(DIAL)
}
