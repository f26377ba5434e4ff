//! What the API server's validation would refuse, for sources without an API server. [`super::compile`] survives it all the same.

use k8s_openapi::api::networking::v1::Ingress;

use super::{
    Diagnostic, Severity, Subject,
    index::{name, namespace},
    parse::{is_dns_label, parse},
};
use crate::route::IngressId;

/// Longest name of an object, in bytes.
const LONGEST_NAME: usize = 253;

/// Whether an API server would take this Ingress. More lenient in one point: hosts may be in upper case or Unicode, or end in a dot, since
/// they are canonicalised anyway.
///
/// # Errors
/// What is wrong with it: at least one diagnostic, errors all.
pub fn admit(ingress: &Ingress) -> Result<(), Vec<Diagnostic>> {
    let id = IngressId { namespace: namespace(&ingress.metadata).into(), name: name(&ingress.metadata).into() };
    let mut diagnostics = Vec::new();
    parse(ingress, &id, &mut diagnostics);
    diagnostics.retain(|diagnostic| diagnostic.severity == Severity::Error);
    let mut bad_name = |field: &str, value: &str| {
        let message = format!("`{value}` is no valid name");
        diagnostics.push(Diagnostic::error(
            "bad_name",
            Subject::ingress(&id, field),
            message,
            "use lower-case letters, digits and inner hyphens",
        ));
    };
    if id.name.len() > LONGEST_NAME || !id.name.split('.').all(is_dns_label) {
        bad_name("metadata.name", &id.name);
    }
    if !is_dns_label(&id.namespace) {
        bad_name("metadata.namespace", &id.namespace);
    }
    if let Some(class) = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref())
        && !class.split('.').all(is_dns_label)
    {
        bad_name("spec.ingressClassName", class);
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
}
