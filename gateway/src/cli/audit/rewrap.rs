//! `sekisho audit rewrap`: an older reviewer lets a newer one open what was sealed before it was one.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use gateway_audit::keyfile::KeyFile;
use gateway_audit::note::MAX_NOTE;
use gateway_audit::reviewer::is_name;
use gateway_audit::reviewer::statement::digest;
use gateway_audit::rewrap::{Addition, MAX_KEYS};
use gateway_audit::wrap;

use super::keys::PeriodArgs;
use super::reviewer::{StatementsArgs, read_bounded, write_new};
use super::secret::ReviewerArgs;
use super::writer::{ConfigArgs, with_log};
use crate::audit::init;
use crate::audit::retention::{Added, Keys};
use crate::cli::registry::operating_system_user;

pub(super) const HELP: &str = "\
Fetch the wrapped data keys first (`sekisho audit keys fetch`), and see that the newer reviewer is stated for the site
(`sekisho audit reviewer add`). This command runs where the older reviewer's private file is, without a gateway. What it
writes opens nothing for anybody but the newer reviewer; hand it to the gateway's operator, who takes it up with
`sekisho audit accept-rewrap`.";

/// `sekisho audit rewrap`.
#[derive(Debug, clap::Args)]
pub struct RewrapArgs {
    #[command(flatten)]
    key: ReviewerArgs,
    #[command(flatten)]
    periods: PeriodArgs,
    /// The newer reviewer, by name
    #[arg(long, value_name = "NAME")]
    reviewer: String,
    /// The folder of wrapped data keys
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Where to write it; more than one file where there are many keys
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    statements: StatementsArgs,
}

/// `sekisho audit accept-rewrap`.
#[derive(Debug, clap::Args)]
pub struct AcceptArgs {
    /// What `sekisho audit rewrap` has written
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Wraps again, and signs it.
///
/// # Errors
/// If keys, statements or the reviewer's file cannot be read, or nothing can be wrapped.
pub(super) fn run(arguments: &RewrapArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let (_, domain, set) = arguments.statements.read()?;
    let site = arguments.periods.site()?;
    let head = set.head(site);
    if !is_name(&arguments.reviewer) {
        bail!("`{}` cannot be the name of a reviewer", arguments.reviewer.escape_debug());
    }
    let Some(newer) = head.reviewers.iter().find(|reviewer| reviewer.name() == arguments.reviewer) else {
        bail!("`{}` is not stated as a reviewer of the site; see `sekisho audit reviewer add`", arguments.reviewer);
    };
    let fits = |file: &&KeyFile| file.site.as_deref() == site && arguments.periods.holds(&file.period);
    let all = Keys::read(&arguments.keys)?;
    let files: Vec<&KeyFile> = all.live.iter().filter(fits).collect();
    let own = arguments.key.open()?;
    let name = newer.name();
    let (mut wrapped, mut known, mut closed) = (Vec::new(), 0_usize, 0_usize);
    for file in files {
        if file.wrapped.iter().any(|(other, _)| other == name) {
            known += 1;
            continue;
        }
        match file.open(&own) {
            Ok(secret) => wrapped.push((file.key, wrap::wrap(&secret, newer.wrapping(), &file.binding(name))?)),
            Err(_) => closed += 1,
        }
    }
    if wrapped.is_empty() {
        bail!("nothing to wrap: {known} data keys are wrapped to `{name}` already, {closed} do not open with this key");
    }
    for (number, keys) in wrapped.chunks(MAX_KEYS).enumerate() {
        let addition = Addition {
            domain: domain.clone(),
            site: site.map(str::to_owned),
            statement: *head.digest,
            reviewer: name.to_owned(),
            keys: keys.to_vec(),
        };
        let path = match number {
            0 => arguments.out.clone(),
            more => PathBuf::from(format!("{}.{}", arguments.out.display(), more + 1)),
        };
        write_new(&path, addition.sign(own.signing())?.as_bytes())?;
        writeln!(out, "`{}` is for `sekisho audit accept-rewrap`: {} data keys", path.display(), keys.len())?;
    }
    if known + closed > 0 {
        writeln!(out, "{known} data keys were wrapped to `{name}` already, {closed} do not open with this key")?;
    }
    Ok(())
}

/// Takes additions up. False if a key of one was not there.
///
/// # Errors
/// If one is not signed by a reviewer of its site, or cannot be recorded.
pub(super) fn accept(arguments: &AcceptArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let config = arguments.config.load()?;
    let set = init::reviewers(&config.audit.reviewers, &config.trust_domain)?;
    let mut additions = Vec::new();
    for path in &arguments.files {
        let note = read_bounded(path, MAX_NOTE)?;
        let (addition, signer) = Addition::open(&note, &config.trust_domain, &set)
            .map_err(|error| anyhow::anyhow!("`{}`: {error}", path.display()))?;
        additions.push((path, addition, signer, digest(&note)));
    }
    let by = operating_system_user();
    let mut whole = true;
    with_log(&config, async |place, log| {
        for (path, addition, signer, sha256) in &additions {
            let added = place.add(addition, (signer, sha256), &by, log).await?;
            let Added { keys, known, absent } = added;
            let (path, reviewer) = (path.display(), &addition.reviewer);
            writeln!(
                out,
                "`{path}`: `{reviewer}` opens {keys} more data keys, {known} it could open, {absent} are not here"
            )?;
            whole &= absent == 0;
        }
        Ok(())
    })?;
    Ok(whole)
}
