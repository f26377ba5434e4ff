//! A rule's path as the pattern that requests are matched with.

use super::super::parse::PathKind;
use crate::{config::limits, message::normalize, route::PathPattern};

/// Why a path is not in force: a diagnostic's code, and what follows the path in its message.
pub(super) type BadPattern = (&'static str, String);

/// The pattern for a path that is no expression, in the form that a request's path has when it is matched.
pub(super) fn literal(kind: PathKind, text: &str) -> Result<PathPattern, BadPattern> {
    let path = normalize(text).map_err(|bad| ("bad_path", format!("can't be met by any request: {bad}")))?;
    Ok(match kind {
        PathKind::Exact => PathPattern::exact(&path),
        PathKind::Prefix | PathKind::ImplementationSpecific => PathPattern::prefix(&path),
    })
}

/// The pattern for a path that is an expression.
pub(super) fn expression(source: &str) -> Result<PathPattern, BadPattern> {
    let compiled = PathPattern::expression(source, limits::PATH_REGEX_BYTES);
    compiled.map_err(|bad| ("bad_expression", format!("is no usable expression: {}", one_line(&bad.to_string()))))
}

/// The regex crate explains over several lines; its last one says what is wrong.
fn one_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
