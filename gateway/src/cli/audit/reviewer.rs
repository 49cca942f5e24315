//! `sekisho audit reviewer`: who may open records.

use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gateway_audit::note::MAX_NOTE;
use gateway_audit::reviewer::private::ROUNDS;
use gateway_audit::reviewer::set::Reviewers;
use gateway_audit::reviewer::statement::Statement;
use gateway_audit::reviewer::{Reviewer, is_name};
use serde_json::json;

use super::secret::{self, ReviewerArgs};
use crate::audit::init;
use crate::config::Config;

/// What to do about reviewers.
#[derive(Debug, clap::Subcommand)]
pub enum ReviewerCommand {
    /// Make a reviewer's keys, on the reviewer's own machine
    New(NewArgs),
    /// State that there is one more reviewer; a reviewer signs
    Add(AddArgs),
    /// State that one is a reviewer no longer; a reviewer signs
    Retire(RetireArgs),
    /// Add a statement that was signed elsewhere (`--out`)
    Accept(AcceptArgs),
    /// Say who the reviewers are
    List(ListArgs),
}

/// Where statements lie.
#[derive(Debug, clap::Args)]
pub(super) struct StatementsArgs {
    /// Folder of the statements, or a copy of it; the configuration's unless given
    #[arg(long, value_name = "DIR", requires = "domain")]
    reviewers: Option<PathBuf>,
    /// Trust domain, with --reviewers
    #[arg(long, requires = "reviewers")]
    domain: Option<String>,
    /// The configuration that names both
    #[arg(long, value_name = "FILE", default_value = crate::cli::DEFAULT_CONFIG, conflicts_with = "reviewers")]
    config: PathBuf,
}

impl StatementsArgs {
    pub(super) fn read(&self) -> anyhow::Result<(PathBuf, String, Reviewers)> {
        let (folder, domain) = match (&self.reviewers, &self.domain) {
            (Some(folder), Some(domain)) => (folder.clone(), domain.clone()),
            (_, _) => {
                let config = Config::load(&self.config)?;
                (config.audit.reviewers, config.trust_domain)
            }
        };
        let set = init::reviewers(&folder, &domain)?;
        Ok((folder, domain, set))
    }
}

/// `sekisho audit reviewer new`.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// The reviewer's name
    name: String,
    /// New private file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with its passphrase; otherwise SEKISHO_REVIEWER_PASSPHRASE, or asked for at the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Also the statement that makes this the first reviewer, for `sekisho audit init --statement`
    #[arg(long, value_name = "FILE", requires = "domain")]
    statement: Option<PathBuf>,
    /// Trust domain of the gateways, with --statement
    #[arg(long, requires = "statement")]
    domain: Option<String>,
}

/// Which site, and what becomes of the statement.
#[derive(Debug, clap::Args)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    statements: StatementsArgs,
    #[command(flatten)]
    signer: ReviewerArgs,
    /// The site; otherwise all sites that have no statement of their own
    #[arg(long)]
    site: Option<String>,
    /// Write the statement here instead of adding it, for `sekisho audit reviewer accept`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `sekisho audit reviewer add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// Public line of the new reviewer, or a file with it; compare it with the reviewer's own by another way
    #[arg(value_name = "LINE")]
    reviewer: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `sekisho audit reviewer retire`.
#[derive(Debug, clap::Args)]
pub struct RetireArgs {
    /// The reviewer's name
    name: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `sekisho audit reviewer accept`.
#[derive(Debug, clap::Args)]
pub struct AcceptArgs {
    /// The signed statement
    #[arg(value_name = "FILE")]
    statement: PathBuf,
    #[command(flatten)]
    statements: StatementsArgs,
}

/// `sekisho audit reviewer list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    statements: StatementsArgs,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// Carries out a command.
///
/// # Errors
/// Those of keys and statements, which name the file.
pub(super) fn run(command: &ReviewerCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        ReviewerCommand::New(arguments) => new(arguments, out),
        ReviewerCommand::Add(arguments) => {
            let reviewers = public_lines(&arguments.reviewer)?;
            change(&arguments.change, out, |mut set| {
                set.extend(reviewers);
                Ok(set)
            })
        }
        ReviewerCommand::Retire(arguments) => change(&arguments.change, out, |mut set| {
            let before = set.len();
            set.retain(|reviewer| reviewer.name() != arguments.name);
            if set.len() == before {
                bail!("`{}` is no reviewer there", arguments.name.escape_debug());
            }
            Ok(set)
        }),
        ReviewerCommand::Accept(arguments) => {
            let (folder, _, mut set) = arguments.statements.read()?;
            let note = read_bounded(&arguments.statement, MAX_NOTE)?;
            let text = String::from_utf8_lossy(&note);
            let text = text.split_once("\n\n").map_or("", |(text, _)| text);
            let statement = Statement::parse(&format!("{text}\n"));
            let statement = statement.with_context(|| arguments.statement.display().to_string())?;
            let path = init::add_statement(&folder, &mut set, statement.site.as_deref(), &note)?;
            told(&path, out)
        }
        ReviewerCommand::List(arguments) => list(arguments, out),
    }
}

fn new(arguments: &NewArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let key = init::new_reviewer(&arguments.name)?;
    let passphrase = secret::new_passphrase(arguments.passphrase_file.clone())?;
    let file = key.protect(&passphrase, ROUNDS, init::random()?)?;
    if let (Some(path), Some(domain)) = (&arguments.statement, &arguments.domain) {
        let note = init::first_statement(domain, &[key.public().clone()], &key)?;
        write_new(path, &note)?;
    }
    certs::issue::write_private_file(&arguments.out, file.as_bytes())?;
    // The public line alone, so that it can go into a file.
    writeln!(out, "{}", key.public())?;
    Ok(())
}

/// Signs the statement that makes `reviewers` of the set in force, and adds or writes it.
fn change(
    arguments: &ChangeArgs,
    out: &mut dyn Write,
    reviewers: impl FnOnce(Vec<Reviewer>) -> anyhow::Result<Vec<Reviewer>>,
) -> anyhow::Result<()> {
    let (folder, domain, mut set) = arguments.statements.read()?;
    let site = arguments.site.as_deref();
    if let Some(site) = site.filter(|site| !is_name(site)) {
        bail!("`{}` cannot be the name of a site", site.escape_debug());
    }
    let head = set.head(site);
    let statement = Statement {
        domain,
        site: site.map(str::to_owned),
        number: if head.site == site { head.number.saturating_add(1) } else { 1 },
        previous: Some(*head.digest),
        reviewers: reviewers(head.reviewers.to_vec())?,
    };
    let signer = arguments.signer.open()?;
    let note = statement.sign(signer.signing())?;
    match &arguments.out {
        None => {
            let path = init::add_statement(&folder, &mut set, site, note.as_bytes())?;
            told(&path, out)
        }
        Some(path) => {
            set.add(site, note.as_bytes())?;
            write_new(path, note.as_bytes())?;
            writeln!(out, "`{}` is for `sekisho audit reviewer accept`", path.display())?;
            Ok(())
        }
    }
}

fn told(path: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "stated in `{}`; a running gateway takes it at its next reload (HUP), for keys made from then on",
        path.display()
    )?;
    Ok(())
}

fn list(arguments: &ListArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let (_, domain, set) = arguments.statements.read()?;
    if arguments.json {
        let site = |head: gateway_audit::reviewer::set::Head<'_>| {
            json!({
                "site": head.site, "number": head.number, "digest": certs::hex(head.digest),
                "reviewers": head.reviewers.iter().map(|reviewer| json!({
                    "name": reviewer.name(), "wrapping": BASE64.encode(reviewer.wrapping().bytes()),
                    "signing": reviewer.signing().to_string(),
                })).collect::<Vec<_>>(),
            })
        };
        let sites: Vec<_> = set.heads().map(site).collect();
        writeln!(out, "{:#}", json!({ "domain": domain, "sites": sites }))?;
        return Ok(());
    }
    for head in set.heads() {
        let site = head.site.map_or_else(|| "all other sites".to_owned(), |site| format!("site `{site}`"));
        writeln!(out, "{site}, statement {} ({})", head.number, certs::hex(head.digest))?;
        for reviewer in head.reviewers {
            writeln!(out, "  {reviewer}")?;
        }
    }
    Ok(())
}

/// Public lines: one as it is, or a file of them.
pub(super) fn public_lines(text: &str) -> anyhow::Result<Vec<Reviewer>> {
    if text.starts_with("reviewer ") {
        return Ok(vec![Reviewer::parse(text.trim_end())?]);
    }
    let path = Path::new(text);
    let file = String::from_utf8(read_bounded(path, MAX_NOTE)?).with_context(|| path.display().to_string())?;
    let lines = file.lines().filter(|line| !line.is_empty());
    let reviewers: Result<Vec<_>, _> = lines.map(Reviewer::parse).collect();
    let reviewers = reviewers.with_context(|| path.display().to_string())?;
    if reviewers.is_empty() {
        bail!("`{}` has no reviewer", path.display());
    }
    Ok(reviewers)
}

/// A file of at most `limit` bytes.
pub(super) fn read_bounded(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let at_most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(at_most).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if bytes.len() > limit {
        bail!("`{}` is longer than {limit} bytes", path.display());
    }
    Ok(bytes)
}

pub(super) fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.as_mut().map_err(|error| std::io::Error::new(error.kind(), error.to_string()));
    written.and_then(|file| file.write_all(bytes)).with_context(|| path.display().to_string())
}
