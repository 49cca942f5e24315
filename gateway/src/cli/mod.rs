//! The `sekisho` command. One file per family of subcommands; here they are told apart.

pub mod audit;
mod backend;
pub mod ca;
pub mod cert;
pub mod check;
mod clock;
mod explain;
mod memory;
pub mod policy;
pub mod quickstart;
pub mod registry;
mod route;
mod run;
mod signals;
mod terminal;
mod tunnel;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use self::registry::{DeviceArgs, RegistryCommand, RegistryOptions, RoleArgs, SessionArgs, SiteArgs, UserArgs};
use crate::config::Config;
use crate::store::Store;

/// Exit code of a configuration or a start that failed.
const FAILURE: u8 = 1;
/// Exit code of a command line that cannot be understood.
const USAGE: u8 = 2;

/// Where a configuration lies unless the command line says otherwise.
const DEFAULT_CONFIG: &str = "/etc/sekisho/sekisho.toml";

/// A zero-trust gateway for medical services
#[derive(Debug, Parser)]
#[command(name = "sekisho", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run(run::RunArgs),
    /// Check configurations, and everything that they name
    Check(check::CheckArgs),
    /// Make an example in a folder and run it
    Quickstart(quickstart::QuickstartArgs),
    /// Check, test and explain policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Which route takes a request
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// The audit log: who may read it, whether it is whole, and what is in it
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Look at certificates as the gateway would; only reads
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// The clinic's own certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Ask the sources of time, and say how far the clock may be off; only reads
    Clock(clock::ClockArgs),
    /// Clinics and hospitals
    Site(SiteArgs),
    /// Managed terminals of a site
    Device(DeviceArgs),
    /// Users of a site
    User(UserArgs),
    /// Professions and duties
    Role(RoleArgs),
    /// Sessions of users who have logged in
    Session(SessionArgs),
    /// WireGuard tunnels of a running gateway; only reads
    Tunnel(tunnel::TunnelArgs),
    /// The servers of the services, and which of them take new requests
    Backend(backend::BackendArgs),
}

/// The whole command: parses the arguments, carries them out, and says how it went.
///
/// Exit codes: 0, 1 configuration or start-up, 2 usage, 3 unclean drain.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match memory::keep().and_then(|()| carry_out(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("sekisho: {}", told(&error)));
            ExitCode::from(FAILURE)
        }
    }
}

/// An error and its causes, each once: most of ours name their cause in their own message.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Writes to standard error what a terminal cannot be misled by.
fn say(message: &str) {
    let shown: String = message
        .chars()
        .map(|c| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() })
        .collect();
    if !shown.is_empty() {
        let _ = writeln!(io::stderr(), "{shown}");
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        say(error.to_string().trim_end());
        ExitCode::from(USAGE)
    } else {
        let _ = write!(io::stdout(), "{error}");
        ExitCode::SUCCESS
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    let out = &mut io::stdout().lock();
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => Ok(code(check::run(&arguments, out)?)),
        Command::Quickstart(arguments) => {
            run::init_quiet_logging();
            arguments.run(run::start_for_quickstart)
        }
        Command::Policy(command) => explain::policy(&command, out),
        Command::Route(command) => Ok(code(route::run(&command, out)?)),
        Command::Audit(command) => Ok(code(audit::run(&command, out)?)),
        Command::Cert(command) => Ok(code(cert::run(&command, out)?)),
        Command::Ca(command) => block_on(ca::run(command, out)).map(|()| ExitCode::SUCCESS),
        Command::Clock(arguments) => block_on(clock::run(&arguments, out)).map(code),
        Command::Backend(arguments) => block_on(backend::run(arguments, out)).map(|()| ExitCode::SUCCESS),
        Command::Site(SiteArgs { options, command }) => registry(options, RegistryCommand::Site(command)),
        Command::Device(DeviceArgs { options, command }) => registry(options, RegistryCommand::Device(command)),
        Command::User(UserArgs { options, command }) => registry(options, RegistryCommand::User(command)),
        Command::Role(RoleArgs { options, command }) => registry(options, RegistryCommand::Role(command)),
        Command::Tunnel(arguments) => block_on(tunnel::run(&arguments, out)).map(|()| ExitCode::SUCCESS),
        Command::Session(SessionArgs { options, command }) => registry(options, RegistryCommand::Session(command)),
    }
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}

fn registry(options: RegistryOptions, mut command: RegistryCommand) -> anyhow::Result<ExitCode> {
    let path = store_path(&options)?;
    if options.store.is_none()
        && let Some(folder @ None) = command.authority()
    {
        *folder = config(&options)?.enrolment.map(|enrolment| enrolment.directory);
    }
    if options.store.is_none()
        && let Some(settings @ None) = command.account()
    {
        *settings = Some(config(&options)?.account);
    }
    if options.store.is_none()
        && let Some(tunnels @ None) = command.tunnels()
    {
        *tunnels = Some(crate::tunnels::TunnelListener::of(&config(&options)?)?);
    }
    block_on(async {
        let store = if command.makes_store() { Store::open(&path).await? } else { Store::open_existing(&path).await? };
        let actor = registry::operating_system_user();
        let done = registry::run(command, &store, &actor, options.json, &mut io::stdout().lock()).await;
        store.close().await;
        done.map(|()| ExitCode::SUCCESS)
    })
}

fn store_path(options: &RegistryOptions) -> anyhow::Result<PathBuf> {
    match &options.store {
        Some(store) => Ok(store.clone()),
        None => Ok(config(options)?.store.file),
    }
}

fn config(options: &RegistryOptions) -> anyhow::Result<Config> {
    Ok(Config::load(options.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG)))?)
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?.block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::run::StartError;

    #[test]
    fn a_cause_is_told_once() {
        let missing = || io::Error::from_raw_os_error(2);
        let read = crate::load::PolicyFileError::Read { path: "p.cedar".into(), source: missing() };
        assert_eq!(told(&read.into()), "cannot read `p.cedar`: No such file or directory (os error 2)");
        let error = anyhow::Error::from(missing()).context("the service manager's sockets");
        assert_eq!(told(&error), "the service manager's sockets: No such file or directory (os error 2)");
    }

    #[test]
    fn the_audit_log_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let held = [1, 2].map(|_| crate::audit::take_lane(folder.path()).unwrap());
        for error in [crate::audit::take_lane(&file), crate::audit::take_lane(folder.path())] {
            let error = StartError::from(crate::audit::OpenError::from(error.unwrap_err()));
            assert_eq!(told(&error.into()).matches("audit ").count(), 1);
        }
        drop(held);
    }

    /// Every command that reads the configuration reads the same one.
    #[test]
    fn there_is_one_default_configuration() {
        fn defaults(command: &clap::Command, found: &mut Vec<(String, String)>) {
            for argument in command.get_arguments().filter(|argument| argument.get_id() == "config") {
                let values = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
                found.extend(values.map(|value| (command.get_name().to_owned(), value)));
            }
            command.get_subcommands().for_each(|command| defaults(command, found));
        }
        let mut found = Vec::new();
        defaults(&Arguments::command(), &mut found);
        assert!(found.len() >= 2, "{found:?}");
        assert!(found.iter().all(|(_, path)| path == DEFAULT_CONFIG), "{found:?}");
    }
}
