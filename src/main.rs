//! Arguments -> config -> `app::run` -> exit code.

use std::process::ExitCode;

use nodegate::{app, config};

// Each worker allocates and frees small pieces by the hundred thousand a second; this allocator has per-thread heaps for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where the kernel gives huge pages to whoever doesn't ask for them (`always`), and where the allocator does ask, a heap of small pieces takes twice the memory;
    // a request takes the same CPU time. A kernel that can't be told is none to give up for.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let result = config::parse(std::env::args_os()).map_err(anyhow::Error::msg).and_then(app::run);
    result.unwrap_or_else(|error| {
        eprintln!("nodegate: {}", config::one_line(&format!("{error:#}")));
        ExitCode::from(2)
    })
}
