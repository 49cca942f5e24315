//! The `sekisho` binary.

use mimalloc::MiMalloc;

/// Requests allocate little, but many at once; the system's allocator took a twelfth of a worker's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    gateway::cli::main()
}
