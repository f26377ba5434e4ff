//! docs/failures.md: each measured row is in its table with what is asserted of it, and is written there where that is asked for.

use crate::document;

const DOCUMENT: &str = "docs/failures.md";
const HEAD: &str = "| What fails | What clients see | Measured |\n|---|---|---|\n";

/// What one fault did.
#[derive(Debug)]
pub struct Row {
    pub fault: &'static str,
    /// What clients see, as the scenario has checked it: the same in every run.
    pub seen: String,
    /// The figures of this run.
    pub measured: String,
}

impl Row {
    fn line(&self) -> String {
        format!("| {} | {} | {} |\n", self.fault, self.seen, self.measured)
    }
}

/// All of them, each printed as it comes.
#[derive(Debug, Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    pub fn push(&mut self, row: Row) {
        println!("failures: {}: {}; {}", row.fault, row.seen, row.measured);
        self.0.push(row);
    }

    /// Compares the document with them, or writes it.
    pub fn check(&self) -> anyhow::Result<()> {
        let lines: String = self.0.iter().map(Row::line).collect();
        document::keep_columns(DOCUMENT, &[HEAD, &lines].concat(), 2)
    }
}
