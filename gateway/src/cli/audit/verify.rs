//! `sekisho audit verify`: the same as `sekisho-verify`.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_audit::verify::{Edge, Part};
use gateway_verify::arguments::{from_edge, to_edge};
use gateway_verify::{Verdict, older, verifier_keys, verify_part, witnesses, write};

use crate::config::Config;

/// `sekisho audit verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A log's folder, a node's with its logs, or a folder of nodes; the one that the configuration names unless given
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The configuration that names the folder
    #[arg(long, value_name = "FILE", default_value = crate::cli::DEFAULT_CONFIG, conflicts_with = "dir")]
    config: PathBuf,
    /// The log's verifier key, or a file with one on each line. Get it by another way than the log
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<String>,
    /// A checkpoint of the same log that was kept elsewhere: the log must continue it
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// A witness's verifier key, or a file with one on each line: witnesses must have cosigned the log's checkpoint, or a
    /// `checkpoint.cosigned` beside it, or one that `--checkpoint` names, and the log must continue what they signed
    #[arg(long, value_name = "KEY")]
    witness: Vec<String>,
    /// How many of them; all unless given
    #[arg(long, value_name = "N", requires = "witness")]
    require: Option<usize>,
    /// Verify only a part of each log, from the tiles of hashes down: from this record's number on, or this time
    #[arg(long, value_name = "PLACE", value_parser = from_edge)]
    from: Option<Edge>,
    /// Up to and with this record's number, or to before this time
    #[arg(long, value_name = "PLACE", value_parser = to_edge)]
    to: Option<Edge>,
}

/// Verifies, and says what was found.
///
/// # Errors
/// If keys or checkpoints are none, or nothing is a log.
pub(super) fn run(arguments: &VerifyArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let directory = match &arguments.dir {
        Some(directory) => directory.clone(),
        None => Config::load(&arguments.config)?.audit.directory,
    };
    let mut keys = Vec::new();
    for key in &arguments.key {
        keys.extend(verifier_keys(key)?);
    }
    let checkpoints = older(&arguments.checkpoint, &keys)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let witnesses = witnesses(&arguments.witness, arguments.require, now)?;
    let (from, to) = (arguments.from, arguments.to);
    let part = (from.is_some() || to.is_some()).then_some(Part { from, to });
    let report = verify_part(&directory, &keys, &checkpoints, witnesses.as_ref(), part)?;
    write(&report, out)?;
    Ok(report.verdict() == Verdict::Good)
}
