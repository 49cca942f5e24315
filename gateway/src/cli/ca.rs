//! `sekisho ca`: the clinic's own certificate authority.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use certs::issue::KeyKind;
use clap::{Args, Subcommand, ValueEnum};
use rustls::pki_types::UnixTime;
use serde_json::json;

use crate::authority::{self, Ca, DAY, ISSUING_VARIABLE, NewCa, ROOT_VARIABLE, Settings, Source};
use crate::cli::DEFAULT_CONFIG;
use crate::config::Config;
use crate::store::Store;

/// What to do with the authority.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make the authority: an offline root and an issuing CA below it
    #[command(after_help = INIT_HELP)]
    Init(InitArgs),
    /// Publish the list of revoked certificates anew
    #[command(after_help = CRL_HELP)]
    Crl(CrlArgs),
}

const INIT_HELP: &str = "\
The root's key is written under a passphrase of at least 12 bytes: from --passphrase-file, or else from the
environment variable SEKISHO_CA_PASSPHRASE, or else asked for at the terminal. Take `root.key` off this machine
afterwards: it is needed again to renew the root's list (`sekisho ca crl --root`) and to replace the issuing CA.

The gateway trusts `root.crt`: name it as `client_ca_file` of its listeners.";

const CRL_HELP: &str = "\
The root's list (--root) needs the root's key and its passphrase, from --passphrase-file, from the environment variable
SEKISHO_CA_PASSPHRASE, or asked for at the terminal.";

/// The kind of the authority's keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Key {
    /// ECDSA, P-256
    #[default]
    P256,
    /// ECDSA, P-384
    P384,
}

/// `sekisho ca init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder of the authority; unless the configuration says so, in `enrolment.directory`
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// SPIFFE trust domain of the devices; unless the configuration says so
    #[arg(long)]
    domain: Option<String>,
    /// Configuration that names both
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the certificates are called
    #[arg(long, default_value = "Sekisho")]
    name: String,
    /// Kind of the keys
    #[arg(long, value_enum, default_value_t)]
    key: Key,
    /// Years that the root lasts
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=50))]
    root_years: u32,
    /// Years that the issuing CA lasts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    issuing_years: u32,
    /// Days that a device's certificate lasts
    #[arg(long, value_name = "N", default_value_t = 90)]
    device_days: u32,
    /// `http` URL under which the folder `crl` is published, for the certificates to say
    #[arg(long, value_name = "URL")]
    crl_url: Option<String>,
    /// File with the root's passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File with a passphrase for the issuing CA's key, which the gateway then reads at every start
    #[arg(long, value_name = "FILE")]
    issuing_passphrase_file: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// `sekisho ca crl`.
#[derive(Debug, Args)]
pub struct CrlArgs {
    /// Folder of the authority
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration that names folder and store
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store itself
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// The root's list instead of the issuing CA's
    #[arg(long)]
    root: bool,
    /// The root's key, where it is not in the folder
    #[arg(long, value_name = "FILE", requires = "root")]
    root_key: Option<PathBuf>,
    /// File with the root's passphrase
    #[arg(long, value_name = "FILE", requires = "root")]
    passphrase_file: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// Carries out a command.
///
/// # Errors
/// Those of the authority and the store, which name the file.
pub async fn run(command: CaCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        CaCommand::Init(arguments) => init(&arguments, out),
        CaCommand::Crl(arguments) => crl(arguments, out).await,
    }
}

fn init(arguments: &InitArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = match (&arguments.dir, &arguments.domain, &arguments.config) {
        (Some(_), Some(_), None) => None,
        (_, _, path) => Some(Config::load(path.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG)))?),
    };
    let folder = folder(arguments.dir.clone(), config.as_ref())?;
    let domain = match (&arguments.domain, &config) {
        (Some(domain), Some(config)) if *domain != config.trust_domain => {
            bail!("--domain is `{}`, and the configuration says `{}`", domain.escape_debug(), config.trust_domain)
        }
        (Some(domain), _) => domain.clone(),
        (None, Some(config)) => config.trust_domain.clone(),
        (None, None) => bail!("no trust domain: give --domain or --config"),
    };
    let source = Source::choose(arguments.passphrase_file.clone(), ROOT_VARIABLE, "Passphrase of the root's key");
    let root_passphrase = source.read()?;
    if source.is_typed() && Source::Terminal("The same again").read()? != root_passphrase {
        bail!("the two passphrases differ");
    }
    let issuing = arguments.issuing_passphrase_file.as_deref().map(std::path::absolute).transpose()?;
    let issuing_source = match (&issuing, std::env::var_os(ISSUING_VARIABLE)) {
        (Some(file), _) => Some(Source::File(file.clone())),
        (None, Some(_)) => Some(Source::Variable(ISSUING_VARIABLE)),
        (None, None) => None,
    };
    let issuing_passphrase = issuing_source.map(|source| source.read()).transpose()?;
    let settings = Settings {
        device_days: arguments.device_days,
        renew_days: arguments.device_days / 3,
        crl_url: arguments.crl_url.clone(),
        issuing_passphrase_file: issuing,
        ..Settings::new(&domain)
    };
    let year = DAY * 365;
    let new = NewCa {
        settings,
        name: &arguments.name,
        key: match arguments.key {
            Key::P256 => KeyKind::P256,
            Key::P384 => KeyKind::P384,
        },
        root_lifetime: year * arguments.root_years,
        issuing_lifetime: year * arguments.issuing_years,
        root_passphrase: Some(&root_passphrase),
        issuing_passphrase: issuing_passphrase.as_deref(),
    };
    authority::make(&folder, &new, UnixTime::now())?;
    let at = |name: &str| folder.join(name).display().to_string();
    if arguments.json {
        let files = json!({ "root_certificate": at("root.crt"), "root_key": at("root.key"),
            "issuing_certificate": at("issuing.crt"), "crl": at("crl/issuing.crl"), "trust_domain": domain });
        writeln!(out, "{files:#}")?;
    } else {
        writeln!(out, "authority of trust domain `{domain}` made in `{}`", folder.display())?;
        writeln!(out, "take `{}` off this machine, and keep it with its passphrase", at("root.key"))?;
        writeln!(out, "listeners trust `{}`: name it as their `client_ca_file`", at("root.crt"))?;
    }
    Ok(())
}

async fn crl(arguments: CrlArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = match (&arguments.dir, &arguments.store, &arguments.config) {
        (Some(_), Some(_), None) => None,
        (Some(_), None, None) if arguments.root => None,
        (_, _, path) => Some(Config::load(path.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG)))?),
    };
    let folder = folder(arguments.dir, config.as_ref())?;
    let now = UnixTime::now();
    if arguments.root {
        let source = Source::choose(arguments.passphrase_file, ROOT_VARIABLE, "Passphrase of the root's key");
        authority::renew_root_crl(&folder, arguments.root_key.as_deref(), &source.read()?, now)?;
        if arguments.json {
            writeln!(out, "{:#}", json!({ "list": "root", "number": now.as_secs() }))?;
        } else {
            writeln!(out, "the root's list is published")?;
        }
        return Ok(());
    }
    let path = arguments.store.or_else(|| config.map(|config| config.store.file)).context("no store")?;
    let store = Store::open_existing(&path).await?;
    let published = Ca::load(&folder)?.publish(&store, now).await;
    store.close().await;
    let draft = published?;
    if arguments.json {
        let list = json!({ "list": "issuing", "number": draft.number, "revoked": draft.revoked.len() });
        writeln!(out, "{list:#}")?;
    } else {
        writeln!(out, "list {} is published; certificates on it: {}", draft.number, draft.revoked.len())?;
    }
    Ok(())
}

/// The authority's folder: as given, or as the configuration names it.
pub(super) fn folder(given: Option<PathBuf>, config: Option<&Config>) -> anyhow::Result<PathBuf> {
    let configured = config.and_then(|config| config.enrolment.as_ref().map(|enrolment| enrolment.directory.clone()));
    given
        .or(configured)
        .context("no folder of an authority: give one, or set `enrolment.directory` in the configuration")
}
