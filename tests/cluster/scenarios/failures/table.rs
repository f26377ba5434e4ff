//! docs/failures.md: each measured row is in its table, and is written there where that is asked for.

use crate::document;

const DOCUMENT: &str = "docs/failures.md";

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

    /// Compares the document with them, or writes it.
    pub fn check(&self) -> anyhow::Result<()> {
        let lines: String = self.0.iter().map(Row::line).collect();
        document::keep(DOCUMENT, &format!("| What fails | What clients see | For how long |\n|---|---|---|\n{lines}"))
    }
}
