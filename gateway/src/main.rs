//! The `sekisho` binary: dispatches to `gateway::cli`.

fn main() {}
