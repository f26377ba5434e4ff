//! Arguments -> config -> `app::run` -> exit code.

use std::process::ExitCode;

use nodegate::{app, config};

// Each worker allocates and frees small pieces by the hundred thousand a second; this allocator has per-thread heaps for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator doesn't ask for huge pages (`no_thp`: it would, before this line); a kernel that gives them to whoever doesn't ask (`always`) is told here. A heap of
    // small pieces would take twice the memory, and a request takes the same CPU time. A kernel that can't be told is none to give up for.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let result = config::parse(std::env::args_os()).map_err(anyhow::Error::msg).and_then(app::run);
    result.unwrap_or_else(|error| {
        eprintln!("nodegate: {}", config::one_line(&format!("{error:#}")));
        ExitCode::from(2)
    })
}
