//! docs/failures.md: each measured row is in its table, and is written there where that is asked for.

use std::{env, fs, path::Path};

use anyhow::{Context, ensure};

const DOCUMENT: &str = "docs/failures.md";
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->";
/// Set, the measured rows replace those of the document.
const WRITE: &str = "NODEGATE_WRITE_DOCS";

/// What one fault did.
#[derive(Debug)]
pub struct Row {
    pub fault: &'static str,
    /// What clients saw meanwhile.
    pub seen: String,
    /// How long, and what ends it.
    pub lasts: String,
}

impl Row {
    fn line(&self) -> String {
        format!("| {} | {} | {} |\n", self.fault, self.seen, self.lasts)
    }
}

/// All of them, each printed as it comes.
#[derive(Debug, Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    pub fn push(&mut self, row: Row) {
        println!("failures: {}: {}; {}", row.fault, row.seen, row.lasts);
        self.0.push(row);
    }

    pub fn check(&self) -> anyhow::Result<()> {
        check(&self.0)
    }
}

/// Compares the document's rows with those that were measured, by the faults' names; figures differ from run to run. Or writes them.
fn check(rows: &[Row]) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("{DOCUMENT} can't be read"))?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{DOCUMENT} has no line {BEGIN:?}"))?;
    let (table, after) = rest.split_once(END).with_context(|| format!("{DOCUMENT} has no line {END:?}"))?;
    if env::var_os(WRITE).is_some() {
        let lines: String = rows.iter().map(Row::line).collect();
        let written = format!("{before}{BEGIN}| What fails | What clients see | For how long |\n|---|---|---|\n{lines}{END}{after}");
        return fs::write(&path, written).with_context(|| format!("{DOCUMENT} can't be written"));
    }
    let faults: Vec<&str> = table.lines().skip(2).filter_map(|line| line.split('|').nth(1)).map(str::trim).collect();
    let measured: Vec<&str> = rows.iter().map(|row| row.fault).collect();
    ensure!(faults == measured, "{DOCUMENT} has rows for {faults:?}, and measured were {measured:?}: run this with {WRITE}=1");
    Ok(())
}
