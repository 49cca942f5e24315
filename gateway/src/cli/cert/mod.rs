//! `sekisho cert show`: who the gateway would take a certificate for, or why not, by the code that listeners use.

mod judge;
mod meaning;
mod print;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use certs::TrustDomain;

use self::judge::{Door, Judge};
use crate::clock::{Clock as _, KernelClock};
use crate::config::Config;
use crate::listen::PeerRules;
use crate::registry::Directory;
use crate::revocation::{Lists, unix_seconds};
use crate::store::Store;

/// Commands on certificates.
#[derive(Debug, clap::Subcommand)]
pub enum CertCommand {
    /// Say in words who the gateway would take certificates for, or why not
    Show(ShowArgs),
}

/// The arguments of `sekisho cert show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Certificates, PEM or DER; in PEM the issuers of the others may stand behind them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The configuration whose listeners, trust and registry judge; the default one where it is there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask this listener alone
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// One JSON object per certificate
    #[arg(long)]
    pub json: bool,
}

/// Shows every certificate of every file. True if none was refused, which is exit code 0; otherwise it is 1.
///
/// # Errors
/// If a file, the configuration or the trust of a listener cannot be read, or `out` cannot be written. A registry that
/// cannot be read is said, and is no error.
pub fn run(command: &CertCommand, out: &mut dyn Write) -> anyhow::Result<bool> {
    let CertCommand::Show(arguments) = command;
    let judge = judge(arguments)?;
    let mut good = true;
    for file in &arguments.files {
        let all = certs::pem::certificates_from_file(file).with_context(|| format!("`{}`", file.display()))?;
        let name = file.display().to_string();
        for report in judge.all(&name, &all) {
            if arguments.json {
                print::json(&report, out)?;
            } else {
                print::text(&report, out)?;
            }
            good &= !report.is_refused();
        }
    }
    out.flush()?;
    Ok(good)
}

/// What judges: the configuration that was named, or the default one if there is one.
fn judge(arguments: &ShowArgs) -> anyhow::Result<Judge> {
    let now = KernelClock::new().context("the kernel's clock cannot be read")?.now();
    let default = Path::new(super::DEFAULT_CONFIG);
    let path = match &arguments.config {
        Some(path) => path,
        None if arguments.listener.is_some() || default.exists() => default,
        None => return Ok(Judge { now, domain: None, doors: Vec::new(), registry: Err(String::new()) }),
    };
    let config = Config::load(path)?;
    let domain = TrustDomain::new(&config.trust_domain)?;
    let wanted = |name: &str| arguments.listener.as_deref().is_none_or(|wanted| wanted == name);
    let mut doors = Vec::new();
    for listener in
        config.listeners.iter().filter(|listener| wanted(&listener.name) && listener.tls.client_ca_file.is_some())
    {
        let anchors = crate::listen::anchors(&listener.tls)?;
        let (name, profile) = (listener.name.clone(), listener.tls.profile.parse()?);
        // The lists of files and of the cache; nothing is fetched.
        let lists = Lists::load(&listener.tls.revocation, &anchors, profile, None, unix_seconds())?;
        let rules = PeerRules::load(listener, &domain)?;
        doors.push(Door { name, profile, rules, anchors, crls: lists.set(), revocation: lists.settings() });
    }
    if doors.is_empty() {
        let name = arguments.listener.as_deref().unwrap_or_default();
        return Err(anyhow!("`{}` has no listener `{}`", path.display(), name.escape_debug()));
    }
    Ok(Judge { now, domain: Some(domain), doors, registry: registry(&config.store.file) })
}

/// Who is registered, or why that cannot be said.
fn registry(path: &Path) -> Result<Directory, String> {
    let read = super::block_on(async {
        let store = Store::open_existing(path).await?;
        let directory = store.directory().await;
        store.close().await;
        Ok(directory?)
    });
    read.map_err(|error| error.to_string())
}
