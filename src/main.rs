//! Arguments -> config -> `app::run` -> exit code.

use std::process::ExitCode;

use nodegate::{app, config};

// Each worker allocates and frees small pieces by the hundred thousand a second; this allocator has per-thread heaps for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = config::parse(std::env::args_os()).map_err(anyhow::Error::msg).and_then(app::run);
    result.unwrap_or_else(|error| {
        eprintln!("nodegate: {}", config::one_line(&format!("{error:#}")));
        ExitCode::from(2)
    })
}
