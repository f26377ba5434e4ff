//! What can be wrong with a file as a whole, or with two of them together, in words. No I/O.

use std::{io, path::Path, sync::Arc};

use crate::{
    compile::{Diagnostic, Severity, Subject},
    source::{file::manifest::Position, object::Key},
};

pub(super) fn display(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

pub(super) fn empty_directory(path: &Path) -> Diagnostic {
    let message = "no manifest below this directory, so every request is answered 404".into();
    problem("no_manifests", Severity::Warning, path, 0, message, "put *.yaml, *.yml or *.json files there")
}

pub(super) fn unreadable_path(path: &Path, error: &io::Error) -> Diagnostic {
    let message = format!("can't be read: {error}");
    problem(
        "unreadable",
        Severity::Error,
        path,
        0,
        message,
        "whatever was read of it before stays in force until it is readable again, or removed",
    )
}

pub(super) fn duplicate(path: &Arc<str>, at: Position, key: &Key, winner: &str) -> Diagnostic {
    let subject = Subject::File { path: Arc::clone(path), document: at.document, line: at.line };
    let message = format!("{key} is already defined in {winner}, which counts");
    Diagnostic { severity: Severity::Error, code: "duplicate_object", subject, message, help: "remove one of the two".into() }
}

pub(super) fn problem(code: &'static str, severity: Severity, path: &Path, line: usize, message: String, help: &str) -> Diagnostic {
    let subject = Subject::File { path: display(path), document: 0, line };
    Diagnostic { severity, code, subject, message, help: help.into() }
}
