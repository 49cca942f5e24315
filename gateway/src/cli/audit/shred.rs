//! `sekisho audit shred`: destroys a site's data keys, and with them what their records say (R26).

use std::io::Write;

use anyhow::bail;
use gateway_audit::reviewer::is_name;

use super::scan::instant;
use super::writer::{ConfigArgs, block_on, with_log};
use crate::audit::retention::{Place, Time};
use crate::cli::registry::operating_system_user;

/// `sekisho audit shred`.
#[derive(Debug, clap::Args)]
pub struct ShredArgs {
    /// The site
    site: String,
    /// Data keys whose periods end by then: year-month-day (UTC)
    #[arg(long, value_name = "DAY", value_parser = instant)]
    before: i64,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) const HELP: &str = "\
Nothing is destroyed that `[audit.retention]` says is kept; the refusal names the key of the configuration, and the day
from which it may be. The records stay in the log and the log still verifies: nobody can read them any more.

The command writes the log's free lane, so it runs as the gateway's user, with the gateway or without it. What it cannot
reach are copies: of the key directory, in backups, and of what reviewers have fetched.";

/// Destroys, and says how much.
///
/// # Errors
/// [`RetentionError`](crate::audit::retention::RetentionError), or that no lane is free.
pub(super) fn run(arguments: &ShredArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let site = arguments.site.as_str();
    if !is_name(site) {
        bail!("`{}` cannot be the name of a site", site.escape_debug());
    }
    let config = arguments.config.load()?;
    let time = block_on(async { Ok(Time::ask(&config.clock).await) })?;
    // What is refused leaves no trace in the log.
    let chosen = Place::of(&config.audit, 1).choose(site, arguments.before, time)?;
    let by = operating_system_user();
    let keys = with_log(&config, async |place, log| Ok(place.shred(chosen, &by, log).await?))?;
    writeln!(out, "destroyed {keys} data keys of the site `{site}`, and recorded it; copies of them are not reached")?;
    Ok(())
}
