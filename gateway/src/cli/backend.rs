//! `sekisho backend`: the servers of the services, and which of them take new requests (R20).
//!
//! Drain goes through the store, as every command that changes something does: whoever may write there may do it, it is
//! recorded, and it lasts over a restart. What the servers are at the moment, the running gateway is asked.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::audit::keys::get;
use super::registry::operating_system_user;
use super::{DEFAULT_CONFIG, terminal};
use crate::admin::BACKENDS_PATH;
use crate::config::Config;
use crate::store::Store;

/// Longest reason, in characters.
const MOST_REASON: usize = 200;

/// `sekisho backend`.
#[derive(Debug, clap::Args)]
pub(super) struct BackendArgs {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: BackendCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BackendCommand {
    /// Show every server as the running gateway sees it
    #[command(after_help = HELP)]
    List {
        /// The admin listener, where it is not the one of the configuration
        #[arg(long, value_name = "ADDRESS")]
        admin: Option<SocketAddr>,
    },
    /// Give a server no new requests; those under way end as they would
    Drain {
        /// The service
        service: String,
        /// The server, as the configuration has it, or its host and port alone
        backend: String,
        /// Why, for whoever looks at the list and the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Give a drained server requests again
    Resume {
        /// The service
        service: String,
        /// The server
        backend: String,
    },
}

const HELP: &str = "\
States: `in`; `starting`, which gets a rising share; `ejected` for a while after failures in a row; `unhealthy` by its health
checks; `drained` by an operator. A server is ready for maintenance once it is drained and has nothing in flight.
Where the admin listener has operators' TLS, ask it with any client:

  curl --cert ops.crt --key ops.key --cacert ca.crt https://gateway:9443/backends";

/// Carries out a command.
pub(super) async fn run(args: BackendArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    match args.command {
        BackendCommand::List { admin } => {
            let page = get(admin.unwrap_or(config.admin.listen), BACKENDS_PATH)?;
            if args.json {
                write!(out, "{}", terminal::json(page.trim_end()))?;
                writeln!(out)?;
                return Ok(());
            }
            let page: Value = serde_json::from_str(&page).context("the gateway's answer is no list of backends")?;
            table(field(&page, "backends").as_array().map(Vec::as_slice).unwrap_or_default(), out)?;
        }
        BackendCommand::Drain { service, backend, reason } => {
            let server = known(&config, &service, &backend)?;
            if reason.as_ref().is_some_and(|reason| reason.is_empty() || reason.chars().count() > MOST_REASON) {
                bail!("a reason has 1 to {MOST_REASON} characters");
            }
            let store = Store::open_existing(&config.store.file).await?;
            let drained = store.backend_drain(&operating_system_user(), &service, &server, reason).await;
            store.close().await;
            let drained = drained?;
            if args.json {
                writeln!(out, "{}", terminal::json(&serde_json::to_string(&drained.entry)?))?;
            } else {
                let what = if drained.changed { "drained" } else { "is drained already; nothing changed" };
                writeln!(out, "{}: {what}", terminal::text(&drained.entry.name()))?;
            }
        }
        BackendCommand::Resume { service, backend } => {
            // Also of a server that the configuration no longer has.
            let server = known(&config, &service, &backend).unwrap_or_else(|_| bare(&backend).to_owned());
            let store = Store::open_existing(&config.store.file).await?;
            let resumed = store.backend_resume(&operating_system_user(), &service, &server).await;
            store.close().await;
            let configured = config.services.iter().find(|known| known.name.as_str() == service);
            if configured.is_some_and(|service| service.resilience.drained.contains(&server)) {
                bail!(
                    "`{server}` is in `drained` of service `{service}` in the configuration: take it out there and reload"
                );
            }
            let resumed = resumed?;
            if args.json {
                writeln!(out, "{}", terminal::json(&serde_json::to_string(&resumed)?))?;
            } else {
                writeln!(out, "{}: resumed", terminal::text(&resumed.name()))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Host and port of a server that may be written as in the configuration.
fn bare(backend: &str) -> &str {
    backend.strip_prefix("http://").or_else(|| backend.strip_prefix("https://")).unwrap_or(backend)
}

/// The server's name in the configuration.
fn known(config: &Config, service: &str, backend: &str) -> anyhow::Result<String> {
    let Some(found) = config.services.iter().find(|known| known.name.as_str() == service) else {
        let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
        bail!("there is no service `{}`; there are {}", service.escape_debug(), names.join(", "));
    };
    let bare = bare(backend);
    let is_known = found.backends.iter().any(|known| known.authority == bare);
    if !is_known {
        let names: Vec<_> = found.backends.iter().map(|backend| backend.authority.as_str()).collect();
        bail!("service `{service}` has no backend `{}`; it has {}", bare.escape_debug(), names.join(", "));
    }
    Ok(bare.to_owned())
}

/// A member, or null.
fn field<'v>(value: &'v Value, key: &str) -> &'v Value {
    value.get(key).unwrap_or(&Value::Null)
}

const COLUMNS: [&str; 8] = ["SERVICE", "BACKEND", "STATE", "SINCE", "ENDS IN", "IN FLIGHT", "REASON", "LAST FAILURE"];

fn table(backends: &[Value], out: &mut dyn Write) -> std::io::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |backend: &Value| {
        let ends = field(backend, "ends_in_ms")
            .as_u64()
            .map_or_else(|| "-".to_owned(), |ms| format!("{} s", ms.div_ceil(1_000)));
        let failure = field(backend, "last_failure");
        let failure = match field(failure, "reason").as_str() {
            Some(reason) => format!("{reason} at {}", text(field(failure, "at"))),
            None => "-".to_owned(),
        };
        [
            text(field(backend, "service")),
            text(field(backend, "backend")),
            text(field(backend, "state")),
            text(field(backend, "since")),
            ends,
            field(backend, "in_flight").to_string(),
            text(field(backend, "reason")),
            failure,
        ]
        .map(|cell| terminal::text(&cell))
    };
    let rows: Vec<[String; 8]> = std::iter::once(COLUMNS.map(str::to_owned)).chain(backends.iter().map(row)).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
