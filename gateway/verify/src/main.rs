//! `sekisho-verify`: checks an audit log with a public key.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_audit::verify::Part;
use gateway_verify::arguments::{self, Command, HELP};
use gateway_verify::{Report, older, verifier_keys, verify_part, witnesses, write};

const USAGE: u8 = 2;

fn main() -> ExitCode {
    let out = &mut io::stdout().lock();
    let report = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => {
            let _ = out.write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            let _ = writeln!(out, "sekisho-verify {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Ok(Command::Verify { directory, keys, older, witnesses, require, part }) => {
            look(&directory, &keys, &older, (&witnesses, require), part)
        }
        Err(why) => Err(format!("{why}; try `sekisho-verify --help`")),
    };
    match report {
        Ok(report) => {
            // The exit code says it all, if nobody reads.
            let _ = write(&report, out);
            ExitCode::from(report.verdict().code())
        }
        Err(why) => {
            let _ = writeln!(io::stderr(), "sekisho-verify: {why}");
            ExitCode::from(USAGE)
        }
    }
}

fn look(
    directory: &Path,
    keys: &[String],
    checkpoints: &[PathBuf],
    (witness_keys, require): (&[String], Option<usize>),
    part: Option<Part>,
) -> Result<Report, String> {
    let mut all = Vec::new();
    for key in keys {
        all.extend(verifier_keys(key).map_err(|error| error.to_string())?);
    }
    let checkpoints = older(checkpoints, &all).map_err(|error| error.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let witnesses = witnesses(witness_keys, require, now).map_err(|error| error.to_string())?;
    verify_part(directory, &all, &checkpoints, witnesses.as_ref(), part).map_err(|error| error.to_string())
}
