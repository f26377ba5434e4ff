//! What is wrong with an object, in one form for the log, the metric, the Event and `nodegate check`.

use std::{fmt, sync::Arc};

use crate::route::IngressId;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but probably not as its author thinks.
    Warning,
    /// Something that the object asks for is not in force.
    Error,
}

/// One finding. Its `Display` is the one text that people see everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Diagnostic {
    /// What the finding is about. First, so that findings sort by object.
    pub subject: Subject,
    /// Error or warning.
    pub severity: Severity,
    /// A stable word for metrics and filters, such as `unknown_service`.
    pub code: &'static str,
    /// What is wrong, and what the proxy does about it.
    pub message: String,
    /// What to write or do instead.
    pub help: String,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A field of a Kubernetes object.
    Object {
        /// Such as `Ingress`.
        kind: &'static str,
        /// `metadata.namespace`; empty for objects that have none.
        namespace: Arc<str>,
        /// `metadata.name`.
        name: Arc<str>,
        /// Such as `spec.rules[0].http.paths[1].backend.service.name`; empty for the object as a whole.
        field: String,
    },
    /// A place in a file.
    File {
        /// The path, as it was found below what `--manifests` named.
        path: Arc<str>,
        /// The YAML document in the file, counted from 1; 0 for the file as a whole.
        document: usize,
        /// The line in the file, counted from 1; 0 where none is known.
        line: usize,
    },
}

impl Diagnostic {
    /// Something that the object asks for is not in force.
    pub fn error(code: &'static str, subject: Subject, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code, subject, message: message.into(), help: help.into() }
    }

    /// Works, but probably not as its author thinks.
    pub fn warning(code: &'static str, subject: Subject, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code, subject, message: message.into(), help: help.into() }
    }
}

impl Subject {
    /// A field of an Ingress.
    pub fn ingress(id: &IngressId, field: impl Into<String>) -> Self {
        Self::Object { kind: "Ingress", namespace: Arc::clone(&id.namespace), name: Arc::clone(&id.name), field: field.into() }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}[{}] {}: {}; {}", self.code, self.subject, self.message, self.help)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object { kind, namespace, name, field } => {
                write!(f, "{kind} ")?;
                if !namespace.is_empty() {
                    write!(f, "{namespace}/")?;
                }
                write!(f, "{name}")?;
                if !field.is_empty() {
                    write!(f, " {field}")?;
                }
                Ok(())
            }
            Self::File { path, document, line } => {
                write!(f, "{path}")?;
                if *document > 0 {
                    write!(f, " document {document}")?;
                }
                if *line > 0 {
                    write!(f, " line {line}")?;
                }
                Ok(())
            }
        }
    }
}
