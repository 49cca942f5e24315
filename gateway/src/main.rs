//! The `sekisho` binary.

use mimalloc::MiMalloc;

/// Requests allocate little, but many at once: measured against the system's allocator in `benches/README.md`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    gateway::cli::main()
}
