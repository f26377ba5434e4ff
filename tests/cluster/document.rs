//! Tables of measured figures in docs/: a run compares what doesn't differ from run to run, and writes them anew where that is asked for.

use std::{env, fs, path::Path};

use anyhow::{Context, ensure};

/// What the marks around a document's only table say.
const ONLY: &str = "measured";
/// At 1, the measured table replaces the document's.
const WRITE: &str = "NODEGATE_WRITE_DOCS";

/// As [`keep_columns`], of a document's only table, whose first column alone is the same in every run.
pub fn keep(document: &str, table: &str) -> anyhow::Result<()> {
    keep_columns(document, ONLY, table, 1)
}

/// Compares the first columns, so many, of a document's table, between its marks, and of the measured one: the figures in the others differ from run to run.
/// Or writes it.
pub fn keep_columns(document: &str, mark: &str, table: &str, columns: usize) -> anyhow::Result<()> {
    let [begin, end] = ["begin", "end"].map(|side| format!("<!-- {mark}: {side} -->\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(&path).with_context(|| format!("{document} can't be read"))?;
    let (head, rest) = text.split_once(&begin).with_context(|| format!("{document} has no line {begin:?}"))?;
    let (written, tail) = rest.split_once(&end).with_context(|| format!("{document} has no line {end:?}"))?;
    if env::var_os(WRITE).is_some_and(|value| value == "1") {
        return fs::write(&path, [head, &begin, table, &end, tail].concat()).with_context(|| format!("{document} can't be written"));
    }
    let (written, measured) = (stable(written, columns), stable(table, columns));
    ensure!(written == measured, "{document} says {written:#?}, and measured was {measured:#?}: run this with {WRITE}=1");
    Ok(())
}

/// A table's first columns, row by row.
fn stable(table: &str, columns: usize) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split('|').skip(1).take(columns).map(str::trim).collect()).collect()
}
