//! `sekisho audit`: looks into an audit log. No gateway is needed, and nothing is written.

mod read;
mod show;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// What `sekisho audit` can do. Every command only reads, on the log of a running gateway or on a copy.
#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
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
}

/// Carries out a command. True if the log was found whole.
///
/// # Errors
/// If the log cannot be read, or `out` not be written.
pub fn run(command: &AuditCommand, out: &mut dyn Write) -> anyhow::Result<bool> {
    match command {
        AuditCommand::Show(arguments) => show::run(arguments, out),
    }
}
