//! `sekisho audit init`: what the log is sealed with, and the first reviewers.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gateway_audit::note::MAX_NOTE;

use super::reviewer::{public_lines, read_bounded};
use super::secret;
use crate::audit::{Options, VERIFIER_KEYS, begin_lanes, init};
use crate::authority::Source;
use crate::config::Config;

/// What `--help` says behind the arguments.
pub(super) const HELP: &str = "\
The log is sealed to reviewers: who they are is said by statements that one of them signs, so that whoever runs this
machine cannot become one. The first statement is signed by one of those that it names:

  reviewer's machine   sekisho audit reviewer new auditor --out auditor.key --domain DOMAIN --statement first
  this machine         sekisho audit init --statement first

or, where the private file is at hand: sekisho audit init --key auditor.key. Take it off this machine afterwards.

Run it as the user that the gateway runs as: what it makes is for that user alone. It also makes the key that signs the
log's checkpoints, and prints what they are verified with.";

/// `sekisho audit init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The configuration that names the folders
    #[arg(long, value_name = "FILE", default_value = crate::cli::DEFAULT_CONFIG)]
    config: PathBuf,
    /// The first statement, made elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "key", required_unless_present = "key")]
    statement: Option<PathBuf>,
    /// Private file of the first reviewer, who signs here
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with its passphrase; otherwise SEKISHO_REVIEWER_PASSPHRASE, or asked for at the terminal
    #[arg(long, value_name = "FILE", requires = "key")]
    passphrase_file: Option<PathBuf>,
    /// Public line of a further reviewer, or a file of them
    #[arg(long, value_name = "LINE", requires = "key")]
    with: Vec<String>,
}

/// Makes what is not there yet.
///
/// # Errors
/// If there are reviewers already, or a file cannot be read or written.
pub(super) fn run(arguments: &InitArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = Config::load(Path::new(&arguments.config))?;
    let (audit, domain) = (&config.audit, &config.trust_domain);
    let options = Options { domain: domain.clone(), ..Options::new(&config.node, "") };
    let set = match (&arguments.statement, &arguments.key) {
        (Some(file), _) => {
            let note = read_bounded(file, MAX_NOTE)?;
            init::make(&audit.key_directory, &audit.reviewers, domain, &note)?
        }
        (None, Some(file)) => {
            let words = "Passphrase of the reviewer's key";
            let passphrase = Source::choose(arguments.passphrase_file.clone(), secret::VARIABLE, words);
            let signer = secret::open(file, &passphrase)?;
            let mut reviewers = vec![signer.public().clone()];
            for line in &arguments.with {
                reviewers.extend(public_lines(line)?);
            }
            let note = init::first_statement(domain, &reviewers, &signer).context("the first statement")?;
            init::make(&audit.key_directory, &audit.reviewers, domain, &note)?
        }
        (None, None) => bail!("give --statement or --key"),
    };
    begin_lanes(&audit.directory, [options.origin(1), options.origin(2)])?;
    let keys = audit.directory.join(VERIFIER_KEYS);
    writeln!(out, "records are sealed to the reviewers:")?;
    for reviewer in set.of(None) {
        writeln!(out, "  {}", reviewer.name())?;
    }
    writeln!(
        out,
        "their statement is in `{}`; wrapped keys go to `{}`",
        audit.reviewers.display(),
        audit.key_directory.display()
    )?;
    writeln!(out, "the log is verified with these keys (`{}`); keep them elsewhere:", keys.display())?;
    for line in std::fs::read_to_string(&keys).with_context(|| keys.display().to_string())?.lines() {
        writeln!(out, "  {line}")?;
    }
    if arguments.key.is_some() {
        writeln!(out, "take the reviewer's private file off this machine")?;
    }
    Ok(())
}
