//! The binary: everything is in the library, but for the allocator, which is one per process.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What one thread allocates another one frees: a body is read by a worker and let go by the store. glibc's malloc
/// locks an arena for that and this one does not; `docs/performance.md` has the figures. Without huge pages
/// (`no_thp`), which would nearly triple what an idle daemon holds.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    longshore::cli::main()
}
