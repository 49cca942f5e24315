//! Reviewers' private files, and where their passphrases come from.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gateway_audit::reviewer::private::ReviewerKey;

use crate::authority::{Source, read_private};

/// The variable with a reviewer's passphrase.
pub(super) const VARIABLE: &str = "SEKISHO_REVIEWER_PASSPHRASE";

/// A reviewer's private file, opened.
#[derive(Debug, clap::Args)]
pub(super) struct ReviewerArgs {
    /// A reviewer's private file
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// File with its passphrase; otherwise SEKISHO_REVIEWER_PASSPHRASE, or asked for at the terminal
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
}

impl ReviewerArgs {
    /// The reviewer.
    pub(super) fn open(&self) -> anyhow::Result<ReviewerKey> {
        let words = "Passphrase of the reviewer's key";
        open(&self.key, &Source::choose(self.passphrase_file.clone(), VARIABLE, words))
    }
}

/// Opens a private file.
pub(super) fn open(file: &Path, passphrase: &Source) -> anyhow::Result<ReviewerKey> {
    let text = read_private(file)?;
    // What is no such file is said before anyone types.
    gateway_audit::reviewer::private::public_part(text.as_bytes()).with_context(|| file.display().to_string())?;
    let passphrase = passphrase.read()?;
    ReviewerKey::open(text.as_bytes(), &passphrase).with_context(|| file.display().to_string())
}

/// A new passphrase, typed twice where it is typed.
pub(super) fn new_passphrase(file: Option<PathBuf>) -> anyhow::Result<String> {
    let source = Source::choose(file, VARIABLE, "Passphrase for the reviewer's key");
    let passphrase = source.read()?;
    if source.is_typed() && Source::Terminal("The same again".into()).read()? != passphrase {
        bail!("the two passphrases differ");
    }
    Ok(passphrase)
}
