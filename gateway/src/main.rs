//! The `sekisho` binary.

use mimalloc::MiMalloc;

/// Requests allocate little, but many at once; glibc's allocator was visible in every profile.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    gateway::cli::main()
}
