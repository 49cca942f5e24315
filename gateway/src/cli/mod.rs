//! The `sekisho` command. One file per family of subcommands; `main` only dispatches.

pub mod check;
pub mod policy;
pub mod quickstart;
pub mod registry;
