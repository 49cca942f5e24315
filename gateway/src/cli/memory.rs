//! What is in memory stays there (A12): keys, passwords, and what records say before they are sealed.

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Leaves no core behind, whoever is told of crashes, and lets nobody but root look into the process.
///
/// # Errors
/// The kernel's, which a container that forbids the call may make.
pub(super) fn keep() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).context("cannot do without cores")?;
    // The limit does not hold for a core that is piped to a program, see core(5).
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot do without cores")
}
