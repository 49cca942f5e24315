//! `sekisho audit prove` and `check-proof`: one record, with a proof that it is in the log.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gateway_audit::header::Envelope;
use gateway_audit::note::MAX_NOTE;
use gateway_audit::proof::{MAX_EXTRA, Proof};
use gateway_audit::tiles::entry::{Entry, Joiner, MAX_ENTRY};
use gateway_audit::tiles::{CHECKPOINT, Files as _};
use gateway_audit::verify::{Located, locate};
use gateway_verify::{Directory, verifier_keys};

use super::reviewer::read_bounded;
use crate::cli::terminal;

/// `sekisho audit prove`.
#[derive(Debug, clap::Args)]
pub struct ProveArgs {
    /// Sequence number of the record
    #[arg(value_name = "SEQ")]
    sequence: u64,
    /// Folder of the lane
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The log's verifier key, or a file with it
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Files to write: OUT.proof and OUT.entry; where a record has several parts, OUT.1.proof and so on
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

/// `sekisho audit check-proof`.
#[derive(Debug, clap::Args)]
pub struct CheckProofArgs {
    /// The proofs, each with its entry beside it: NAME.proof and NAME.entry; of a record in parts, all of them in order
    #[arg(value_name = "PROOF", required = true)]
    proofs: Vec<PathBuf>,
    /// The log's verifier key, or a file with it. Get it by another way than the proof
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Write the record's envelope here, for whoever opens it
    #[arg(long, value_name = "FILE")]
    envelope: Option<PathBuf>,
}

/// Writes the proof of a record.
///
/// # Errors
/// If the log has no such record, or its tiles are not whole.
pub(super) fn prove(arguments: &ProveArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut files = Directory(arguments.dir.clone());
    let checkpoint = files.read(CHECKPOINT, MAX_NOTE)?;
    let checkpoint = checkpoint.with_context(|| format!("`{}` has no checkpoint", arguments.dir.display()))?;
    let checkpoint = String::from_utf8(checkpoint).context("`checkpoint` is not text")?;
    let origin = checkpoint.lines().next().unwrap_or_default();
    let keys = verifier_keys(&arguments.key)?;
    let Some(key) = keys.iter().find(|key| key.name() == origin) else {
        bail!("no key is for the log `{}`", origin.escape_debug())
    };
    let size = gateway_audit::checkpoint::Checkpoint::open(checkpoint.as_bytes(), key, &[])?.checkpoint.size;
    let found = locate(&mut files, size, arguments.sequence)?;
    let Some(Located { index, entries }) = found else {
        bail!("the checkpoint covers no record {}", arguments.sequence)
    };
    for (place, entry) in entries.iter().enumerate() {
        let proof = Proof::create(&mut files, &checkpoint, key, index + u64::try_from(place)?, entry)?;
        let part = if entries.len() == 1 { String::new() } else { format!(".{}", place + 1) };
        for (bytes, kind) in [(proof.to_string().as_bytes(), "proof"), (entry.as_slice(), "entry")] {
            let path = suffixed(&arguments.out, &format!("{part}.{kind}"));
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            writeln!(out, "{}", path.display())?;
        }
    }
    Ok(())
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Checks proofs, and says which record they prove. False if one does not hold.
///
/// # Errors
/// If a file cannot be read, or is none.
pub(super) fn check(arguments: &CheckProofArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let keys = verifier_keys(&arguments.key)?;
    let mut joiner: Option<Joiner> = None;
    let mut record: Option<(u64, Vec<u8>)> = None;
    let mut last = None;
    for path in &arguments.proofs {
        let at = || path.display().to_string();
        let proof = Proof::parse(&read_bounded(path, MAX_NOTE + MAX_EXTRA)?).with_context(at)?;
        let bytes = read_bounded(&path.with_extension("entry"), MAX_ENTRY)?;
        let origin = proof.checkpoint.lines().next().unwrap_or_default();
        let Some(key) = keys.iter().find(|key| key.name() == origin) else {
            bail!("{}: no key is for the log `{}`", at(), origin.escape_debug())
        };
        let signed = match proof.check(&bytes, key, &[]) {
            Ok(signed) => signed,
            Err(error) => {
                writeln!(out, "BAD: {}: {}", terminal::text(&at()), terminal::text(&error.to_string()))?;
                return Ok(false);
            }
        };
        let entry = Entry::decode(&bytes).with_context(at)?;
        let keep = usize::MAX;
        let joiner = joiner.get_or_insert_with(|| Joiner::new(entry.sequence, keep));
        joiner
            .push(&entry, |sequence, bytes| record = bytes.map(|bytes| (sequence, bytes.to_vec())))
            .with_context(at)?;
        last = Some(signed.checkpoint);
    }
    let (Some((sequence, envelope)), Some(checkpoint)) = (record, last) else {
        bail!("parts of the record are missing")
    };
    let header = Envelope::decode(&envelope)?.header;
    let mut time = Vec::new();
    gateway_audit::time::write(&mut time, header.unix_ns);
    writeln!(
        out,
        "good: record {sequence} of `{}`: {}, {}, site {}, reference `{}`; in the tree of {} entries",
        terminal::text(&checkpoint.origin),
        header.kind,
        String::from_utf8_lossy(&time),
        header.site,
        header.reference,
        checkpoint.size
    )?;
    if let Some(path) = &arguments.envelope {
        fs::write(path, &envelope).with_context(|| path.display().to_string())?;
    }
    Ok(true)
}
