//! Tables of measured figures in docs/: a run compares what they are about, and writes them anew where that is asked for.

use std::{env, fs, path::Path};

use anyhow::{Context, ensure};

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";
/// Set, the measured table replaces the document's.
const WRITE: &str = "NODEGATE_WRITE_DOCS";

/// Compares the first columns of a document's table and of the measured one: figures differ from run to run. Or writes it.
pub fn keep(document: &str, table: &str) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(&path).with_context(|| format!("{document} can't be read"))?;
    let (head, rest) = text.split_once(BEGIN).with_context(|| format!("{document} has no line {BEGIN:?}"))?;
    let (written, tail) = rest.split_once(END).with_context(|| format!("{document} has no line {END:?}"))?;
    if env::var_os(WRITE).is_some() {
        return fs::write(&path, [head, BEGIN, table, END, tail].concat()).with_context(|| format!("{document} can't be written"));
    }
    let (written, measured) = (subjects(written), subjects(table));
    ensure!(written == measured, "{document} has rows for {written:?}, and measured were {measured:?}: run this with {WRITE}=1");
    Ok(())
}

/// A table's first column.
fn subjects(table: &str) -> Vec<&str> {
    table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim).collect()
}
