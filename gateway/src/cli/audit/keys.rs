//! `sekisho audit keys`: how a reviewer comes to wrapped data keys. The gateway that gives them out records it first.

use std::fs;
use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use gateway_audit::keyfile::{KeyFile, is_period};
use gateway_audit::reviewer::is_name;

use crate::admin::openings::{PATH, parts};

/// Longest answer that is read, bytes.
const MAX_ANSWER: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do about wrapped data keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Fetch those of a site from the gateway on this machine
    #[command(after_help = HELP)]
    Fetch(FetchArgs),
    /// Put what was fetched by other means into a folder
    Unpack(UnpackArgs),
}

const HELP: &str = "\
The gateway records who asked, for which site, periods and reviewer, before it answers; the site's reviewers see it.
Where its admin listener has operators' TLS, fetch with any client and unpack:

  curl --cert ops.crt --key ops.key --cacert ca.crt -o keys.txt \\
    'https://gateway:9443/audit/keys?site=sakura-clinic&from=2026-01-01&to=2026-01-31&reviewer=auditor'
  sekisho audit keys unpack keys.txt --out keys";

/// Which site and periods.
#[derive(Debug, clap::Args)]
pub(super) struct PeriodArgs {
    /// The site
    #[arg(long, required_unless_present = "no_site", conflicts_with = "no_site")]
    site: Option<String>,
    /// Records of no site: the provider's own
    #[arg(long)]
    no_site: bool,
    /// First period: year-month-day
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: String,
    /// Last period
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: String,
}

impl PeriodArgs {
    pub(super) fn site(&self) -> anyhow::Result<Option<&str>> {
        match &self.site {
            Some(site) if !is_name(site) => bail!("`{}` cannot be the name of a site", site.escape_debug()),
            site => Ok(site.as_deref()),
        }
    }

    pub(super) fn holds(&self, period: &str) -> bool {
        // Days as they are written sort as they follow.
        (self.from.as_str()..=self.to.as_str()).contains(&period)
    }
}

fn day(text: &str) -> Result<String, String> {
    if is_period(text) { Ok(text.to_owned()) } else { Err("it is not year-month-day".to_owned()) }
}

/// `sekisho audit keys fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    #[command(flatten)]
    periods: PeriodArgs,
    /// For whom they are wrapped
    #[arg(long, value_name = "NAME")]
    reviewer: String,
    /// The admin listener, on a loopback address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9443")]
    admin: SocketAddr,
    /// The folder to put them into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// `sekisho audit keys unpack`.
#[derive(Debug, clap::Args)]
pub struct UnpackArgs {
    /// The answer of a gateway
    file: PathBuf,
    /// The folder to put them into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Carries out a command.
///
/// # Errors
/// What the gateway says, or that its answer is none.
pub(super) fn run(command: &KeysCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        KeysCommand::Fetch(arguments) => {
            let site = arguments.periods.site()?.unwrap_or("*");
            if !is_name(&arguments.reviewer) {
                bail!("`{}` cannot be the name of a reviewer", arguments.reviewer.escape_debug());
            }
            let PeriodArgs { from, to, .. } = &arguments.periods;
            let query = format!("{PATH}?site={site}&from={from}&to={to}&reviewer={}", arguments.reviewer);
            let answer = get(arguments.admin, &query)?;
            unpack(&answer, &arguments.out, out)
        }
        KeysCommand::Unpack(arguments) => {
            let answer = fs::read_to_string(&arguments.file).with_context(|| arguments.file.display().to_string())?;
            unpack(&answer, &arguments.out, out)
        }
    }
}

/// Writes each file where it belongs.
fn unpack(answer: &str, folder: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let files: Result<Vec<KeyFile>, _> = parts(answer).map(|part| KeyFile::parse(part.as_bytes())).collect();
    let files = files.context("the answer is not made of data key files")?;
    if files.is_empty() {
        bail!("the answer holds no data key file");
    }
    for file in &files {
        let path = folder.join(file.path());
        let parent = path.parent().unwrap_or(folder);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| parent.display().to_string())?;
        let mut options = fs::OpenOptions::new();
        let written = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        written
            .and_then(|mut opened| opened.write_all(file.to_string().as_bytes()))
            .with_context(|| path.display().to_string())?;
    }
    writeln!(
        out,
        "{} data keys are in `{}`; destroy the folder when the review is done",
        files.len(),
        folder.display()
    )?;
    Ok(())
}

/// Asks the admin listener on this machine.
pub(in crate::cli) fn get(admin: SocketAddr, target: &str) -> anyhow::Result<String> {
    if !admin.ip().is_loopback() {
        bail!("{admin} is not a loopback address; see `--help` for operators' TLS");
    }
    let mut stream =
        TcpStream::connect_timeout(&admin, PATIENCE).with_context(|| format!("no gateway answers at {admin}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the gateway's answer is not text")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the gateway's answer is no answer")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("the gateway refuses: {}", body.trim_end());
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| length != body.len()) {
        bail!("the gateway's answer is cut off");
    }
    Ok(body.to_owned())
}
