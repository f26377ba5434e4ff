//! What clients saw while Traefik went, and the table of it in docs/migrate-from-traefik.md.

use std::{env, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};

use crate::load::Tally;

/// The guide, and what encloses its table.
const GUIDE: &str = "docs/migrate-from-traefik.md";
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";
/// Set to have the table written anew.
const WRITE: &str = "NODEGATE_WRITE_DOCS";
/// No request gets a wrong answer for longer: a guard against hanging, far above what is measured.
const LONGEST: Duration = Duration::from_secs(30);

/// Prints the figures, and writes them into the guide if asked to, else compares what the guide's table is about.
pub fn report(tally: &Tally, rate: u32, alone_after: Duration) -> anyhow::Result<()> {
    let fresh = tally.failed.iter().filter(|failure| failure.fresh).count();
    let kept = tally.failed.len() - fresh;
    let slowest = tally.failed.iter().map(|failure| failure.took).max().unwrap_or_default();
    println!(
        "takeover: Traefik removed under {rate} requests/s: {} of {} failed ({fresh} on fresh connections, {kept} on kept ones, the slowest after {:.2} s), \
         longest gap at a node {:.2} s, Nodegate alone on all after {:.1} s",
        tally.failed.len(),
        tally.sent,
        slowest.as_secs_f32(),
        tally.longest_gap.as_secs_f32(),
        alone_after.as_secs_f32(),
    );
    for failure in tally.failed.iter().take(3) {
        println!("takeover: for example {failure}");
    }
    ensure!(tally.longest_gap < LONGEST, "a node didn't answer for {:?}", tally.longest_gap);
    let table = format!(
        "| what | measured |\n|---|---|\n\
         | requests sent while Traefik was removed ({rate} a second, three nodes in turn) | {} |\n\
         | failed on fresh connections | {fresh} |\n\
         | failed on kept connections | {kept} |\n\
         | longest time that a failure took | {:.2} s |\n\
         | longest time without an answer from a node | {:.2} s |\n\
         | from `kubectl delete` until every node's port 80 was Nodegate's alone | {:.1} s |\n",
        tally.sent,
        slowest.as_secs_f32(),
        tally.longest_gap.as_secs_f32(),
        alone_after.as_secs_f32(),
    );
    keep(&table)
}

fn keep(table: &str) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GUIDE);
    let guide = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let (head, rest) = guide.split_once(BEGIN).with_context(|| format!("{GUIDE} lacks {BEGIN:?}"))?;
    let (written, tail) = rest.split_once(END).with_context(|| format!("{GUIDE} lacks {END:?}"))?;
    if env::var(WRITE).is_ok_and(|value| value == "1") {
        return Ok(fs::write(&path, [head, BEGIN, table, END, tail].concat())?);
    }
    ensure!(subjects(written) == subjects(table), "{GUIDE} has another table than this measures; {WRITE}=1 writes it anew");
    Ok(())
}

/// A table's first column.
fn subjects(table: &str) -> Vec<&str> {
    table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim).collect()
}
