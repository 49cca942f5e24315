//! `sekisho audit`: who may read the audit log, whether it is whole, and what is in it. No gateway is needed.

mod export;
mod index;
mod init;
pub(super) mod keys;
mod print;
mod prove;
mod query;
mod read;
mod report;
mod reviewer;
mod rewrap;
mod scan;
mod secret;
mod ship;
mod show;
mod shred;
mod status;
mod verify;
mod writer;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// What `sekisho audit` can do. Where the log is read, it is that of a running gateway or a copy.
#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Make what the log is sealed with, and name the first reviewers
    #[command(after_help = init::HELP)]
    Init(init::InitArgs),
    /// Who may open records
    #[command(subcommand)]
    Reviewer(reviewer::ReviewerCommand),
    /// Verify logs: that nothing was altered, removed, inserted, reordered, truncated or forked
    Verify(verify::VerifyArgs),
    /// Print the records that answer a question, in order of time
    Query(Box<query::QueryArgs>),
    /// Write records in a form that others read
    Export(Box<export::ExportArgs>),
    /// Say who saw which patients, and who still uses which protocols
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Write one record with a proof that it is in the log
    Prove(prove::ProveArgs),
    /// Check such a proof
    CheckProof(prove::CheckProofArgs),
    /// Say what the log holds, who can open it, and until when
    Status(status::StatusArgs),
    /// Destroy a site's data keys, once they are kept for as long as the configuration states
    #[command(after_help = shred::HELP)]
    Shred(shred::ShredArgs),
    /// Fetch wrapped data keys from a running gateway, which records it
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Wrap older data keys to another reviewer; a reviewer who can open them does so
    #[command(after_help = rewrap::HELP)]
    Rewrap(rewrap::RewrapArgs),
    /// Take up what `sekisho audit rewrap` has written
    AcceptRewrap(rewrap::AcceptArgs),
    /// Give what the log holds to receivers elsewhere, until told to end
    Ship(ship::ShipArgs),
    /// Print the last records. Only reads, with or without a gateway that runs; works on a copy of a log as well
    Show(show::ShowArgs),
}

/// Which log to read.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// The log's folder; the one that the configuration names unless given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The configuration that names the folder
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG, conflicts_with = "dir")]
    pub config: PathBuf,
}

impl LogArgs {
    fn directory(&self) -> anyhow::Result<PathBuf> {
        match &self.dir {
            Some(directory) => Ok(directory.clone()),
            None => Ok(Config::load(Path::new(&self.config))?.audit.directory),
        }
    }

    /// The key directory that was named, or that of the configuration.
    fn keys(&self, keys: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
        match (keys, &self.dir) {
            (Some(keys), _) => Ok(keys.clone()),
            (None, Some(_)) => anyhow::bail!("`--dir` and `--key` need `--keys`, the folder of wrapped data keys"),
            (None, None) => Ok(Config::load(Path::new(&self.config))?.audit.key_directory),
        }
    }
}

/// Carries out a command. False if something bad was found in a log.
///
/// # Errors
/// If the log cannot be read, or `out` not be written.
pub fn run(command: &AuditCommand, out: &mut dyn Write) -> anyhow::Result<bool> {
    match command {
        AuditCommand::Init(arguments) => init::run(arguments, out).map(|()| true),
        AuditCommand::Reviewer(command) => reviewer::run(command, out).map(|()| true),
        AuditCommand::Verify(arguments) => verify::run(arguments, out),
        AuditCommand::Query(arguments) => query::run(arguments, out),
        AuditCommand::Export(arguments) => export::run(arguments, out),
        AuditCommand::Report(command) => report::run(command, out),
        AuditCommand::Prove(arguments) => prove::prove(arguments, out).map(|()| true),
        AuditCommand::CheckProof(arguments) => prove::check(arguments, out),
        AuditCommand::Status(arguments) => status::run(arguments, out).map(|()| true),
        AuditCommand::Shred(arguments) => shred::run(arguments, out).map(|()| true),
        AuditCommand::Keys(command) => keys::run(command, out).map(|()| true),
        AuditCommand::Rewrap(arguments) => rewrap::run(arguments, out).map(|()| true),
        AuditCommand::AcceptRewrap(arguments) => rewrap::accept(arguments, out),
        AuditCommand::Ship(arguments) => ship::run(arguments).map(|()| true),
        AuditCommand::Show(arguments) => show::run(arguments, out),
    }
}

#[cfg(test)]
mod tests;
