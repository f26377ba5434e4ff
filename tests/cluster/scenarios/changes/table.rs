//! docs/failures.md: what a run has measured is in the table of changes with what is asserted of it, and is written there where that is asked for.

use crate::document;

const DOCUMENT: &str = "docs/failures.md";
/// The table's name in the document's markers.
const TABLE: &str = "measured changes";
const HEAD: &str = "| What changes | What clients see | Measured |\n|---|---|---|\n";

/// What one change did.
#[derive(Debug)]
pub struct Row {
    pub change: &'static str,
    /// What clients see, as the scenario has checked it: the same in every run.
    pub seen: String,
    /// The figures of this run.
    pub measured: String,
}

impl Row {
    fn line(&self) -> String {
        format!("| {} | {} | {} |\n", self.change, self.seen, self.measured)
    }
}

/// All of them, each printed as it comes.
#[derive(Debug, Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    pub fn push(&mut self, row: Row) {
        println!("changes: {}: {}; {}", row.change, row.seen, row.measured);
        self.0.push(row);
    }

    /// Compares the document with them, or writes it.
    pub fn check(&self) -> anyhow::Result<()> {
        let lines: String = self.0.iter().map(Row::line).collect();
        document::keep_table(DOCUMENT, TABLE, &[HEAD, &lines].concat(), 2)
    }
}
