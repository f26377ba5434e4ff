//! What is new in the files, until it is known what that means. No I/O.

use std::{cmp::Ordering, iter};

use crate::source::file::{
    finding::display,
    manifest::{Definition, Format, Text},
    place::Place,
    state::known::Known,
};

/// Files that changed, and were not read yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changed: Vec<Changed>,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Changed {
    pub(super) place: Place,
    pub(super) text: String,
    /// It had been gone.
    pub(super) returned: bool,
}

impl Batch {
    pub(super) fn extend(&mut self, changed: Option<Changed>) {
        self.bytes += changed.as_ref().map_or(0, |changed| changed.text.len());
        self.changed.extend(changed);
    }
}

impl Changed {
    pub(super) fn text<'a>(&'a self, known: Option<&'a Known>) -> Text<'a> {
        let path = &self.place.path;
        let format = if path.extension().is_some_and(|extension| extension == "json") { Format::Json } else { Format::Yaml };
        Text { path: display(path), content: &self.text, format, earlier: known.map(Known::earlier).unwrap_or_default() }
    }
}

/// The definitions before and after, each with its counterpart. Both are sorted.
pub(super) fn pairs<'a>(
    before: &'a [Definition],
    after: &'a [Definition],
) -> impl Iterator<Item = (Option<&'a Definition>, Option<&'a Definition>)> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    iter::from_fn(move || {
        let order = match (before.peek(), after.peek()) {
            (Some(old), Some(new)) => old.key.cmp(&new.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        Some((order.is_le().then(|| before.next()).flatten(), order.is_ge().then(|| after.next()).flatten()))
    })
}
