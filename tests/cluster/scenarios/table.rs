//! docs/failures.md: each measured row is in its scenario's table with what is asserted of it, and is written there where that is asked for.

use crate::document;

const DOCUMENT: &str = "docs/failures.md";

/// What one thing did that happened.
#[derive(Debug)]
pub struct Row {
    pub event: &'static str,
    /// What clients see, as the scenario has checked it: the same in every run.
    pub seen: String,
    /// The figures of this run.
    pub measured: String,
}

impl Row {
    fn line(&self) -> String {
        format!("| {} | {} | {} |\n", self.event, self.seen, self.measured)
    }
}

/// A table of them, each printed as it comes.
#[derive(Debug)]
pub struct Rows {
    /// The scenario, and what it is called in the document's marks.
    name: &'static str,
    /// What the first column is called.
    events: &'static str,
    all: Vec<Row>,
}

impl Rows {
    pub fn of(name: &'static str, events: &'static str) -> Self {
        Self { name, events, all: Vec::new() }
    }

    pub fn push(&mut self, row: Row) {
        println!("{}: {}: {}; {}", self.name, row.event, row.seen, row.measured);
        self.all.push(row);
    }

    /// Compares the document with them, or writes it.
    pub fn check(&self) -> anyhow::Result<()> {
        let head = format!("| {} | What clients see | Measured |\n|---|---|---|\n", self.events);
        let lines: String = self.all.iter().map(Row::line).collect();
        document::keep_columns(DOCUMENT, &format!("measured {}", self.name), &[head, lines].concat(), 2)
    }
}
