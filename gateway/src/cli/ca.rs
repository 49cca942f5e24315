//! `sekisho ca`: the clinic's own certificate authority.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use certs::issue::KeyKind;
use clap::{Args, Subcommand, ValueEnum};
use rustls::pki_types::UnixTime;
use serde_json::json;

use crate::authority::token::SCHEME;
use crate::authority::{
    self, Ca, DAY, ISSUING_VARIABLE, KeyUri, NewCa, NewTokenKey, Pin, ROOT_VARIABLE, RootKey, Settings, Source,
    TokenKey,
};
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
    /// Let the root certify the issuing CA for another while
    #[command(after_help = RENEW_HELP)]
    Renew(RenewArgs),
}

const INIT_HELP: &str = "\
The root's key is written under a passphrase of at least 12 bytes: from --passphrase-file, or else from the
environment variable SEKISHO_CA_PASSPHRASE, or else asked for at the terminal. Take `root.key` off this machine
afterwards: it is needed again to renew the root's list (`sekisho ca crl --root`) and the issuing CA (`sekisho ca
renew`).

A key can be in a PKCS#11 token instead, by a URI (RFC 7512) that names `token` or `serial`, `object` or `id`, and
`module-path`. It is made there, sensitive and not extractable, unless --existing-key says that it is there. The PIN
comes from the file of `pin-source=file:…`, or else from the systemd credential `sekisho-token-pin`, or else from the
environment variable SEKISHO_TOKEN_PIN, or else it is asked for at the terminal:

  --key 'pkcs11:token=clinic;object=issuing?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/sekisho/pin'

The gateway trusts `root.crt`: name it as `client_ca_file` of its listeners.";

const CRL_HELP: &str = "\
The root's list (--root) needs the root's key: a file and its passphrase, from --passphrase-file, from the environment
variable SEKISHO_CA_PASSPHRASE, or asked for at the terminal; or a token, whose URI is in `ca.toml` or in --root-key.";

const RENEW_HELP: &str = "\
Needs the root's key, as `sekisho ca crl --root` does. The issuing CA keeps its name and its key, so that devices'
certificates and the published lists stand as they did. A gateway that runs shows the new certificate from its next
start on.";

/// The kind of the authority's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Curve {
    /// ECDSA, P-256
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
    /// The issuing CA's key: `p256` or `p384` for a file, or a `pkcs11:` URI
    // Text, not a parsed value: clap's errors repeat what was given, and somebody may have put a PIN there.
    #[arg(long, value_name = "KIND|URI", default_value = "p256", hide_default_value = true)]
    key: String,
    /// The root's key, where it is in a token: a `pkcs11:` URI
    #[arg(long, value_name = "URI")]
    root_key: Option<String>,
    /// Kind of keys that are made, where --key is a URI
    #[arg(long, value_enum)]
    curve: Option<Curve>,
    /// The tokens' keys are there already; none is made
    #[arg(long)]
    existing_key: bool,
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
    /// The root's key, where it is not in the folder: a file, or a `pkcs11:` URI
    #[arg(long, value_name = "FILE|URI", requires = "root")]
    root_key: Option<String>,
    /// File with the root's passphrase
    #[arg(long, value_name = "FILE", requires = "root")]
    passphrase_file: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// `sekisho ca renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// Folder of the authority
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration that names the folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The root's key, where it is not in the folder: a file, or a `pkcs11:` URI
    #[arg(long, value_name = "FILE|URI")]
    root_key: Option<String>,
    /// File with the root's passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Years that the issuing CA lasts from now on
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    years: u32,
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
        CaCommand::Renew(arguments) => renew(&arguments, out),
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
    let (kind, issuing_token) = key(arguments)?;
    let root_token = arguments.root_key.as_deref().map(|uri| token(uri, arguments.existing_key)).transpose()?;
    let root_passphrase = match root_token {
        None => Some(new_passphrase(arguments)?),
        Some(_) => None,
    };
    if issuing_token.is_some() && arguments.issuing_passphrase_file.is_some() {
        bail!("--issuing-passphrase-file is for a key in a file, and --key is a token's");
    }
    let issuing = arguments.issuing_passphrase_file.as_deref().map(std::path::absolute).transpose()?;
    let issuing_source = match (&issuing, std::env::var_os(ISSUING_VARIABLE)) {
        (Some(file), _) => Some(Source::File(file.clone())),
        (None, Some(_)) if issuing_token.is_none() => Some(Source::Variable(ISSUING_VARIABLE)),
        (None, _) => None,
    };
    let issuing_passphrase = issuing_source.map(|source| source.read()).transpose()?;
    let settings = Settings {
        device_days: arguments.device_days,
        renew_days: arguments.device_days / 3,
        crl_url: arguments.crl_url.clone(),
        issuing_passphrase_file: issuing,
        issuing_key: issuing_token.as_ref().map(|token| token.key.uri().to_string()),
        root_key: root_token.as_ref().map(|token| token.key.uri().to_string()),
        ..Settings::new(&domain)
    };
    let year = DAY * 365;
    let new = NewCa {
        settings,
        name: &arguments.name,
        key: kind,
        root_token,
        issuing_token,
        root_lifetime: year * arguments.root_years,
        issuing_lifetime: year * arguments.issuing_years,
        root_passphrase: root_passphrase.as_deref(),
        issuing_passphrase: issuing_passphrase.as_deref(),
    };
    authority::make(&folder, &new, UnixTime::now())?;
    let at = |name: &str| folder.join(name).display().to_string();
    if arguments.json {
        let root_key = new.settings.root_key.clone().unwrap_or_else(|| at("root.key"));
        let files = json!({ "root_certificate": at("root.crt"), "root_key": root_key,
            "issuing_certificate": at("issuing.crt"), "crl": at("crl/issuing.crl"), "trust_domain": domain });
        writeln!(out, "{files:#}")?;
    } else {
        writeln!(out, "authority of trust domain `{domain}` made in `{}`", folder.display())?;
        if new.root_token.is_none() {
            writeln!(out, "take `{}` off this machine, and keep it with its passphrase", at("root.key"))?;
        }
        writeln!(out, "listeners trust `{}`: name it as their `client_ca_file`", at("root.crt"))?;
    }
    Ok(())
}

/// The kind of keys that are made, and the token of the issuing CA's.
fn key(arguments: &InitArgs) -> anyhow::Result<(KeyKind, Option<NewTokenKey>)> {
    let curve = arguments.curve.map(|curve| match curve {
        Curve::P256 => KeyKind::P256,
        Curve::P384 => KeyKind::P384,
    });
    let kind = match arguments.key.as_str() {
        "p256" => KeyKind::P256,
        "p384" => KeyKind::P384,
        uri if uri.starts_with(SCHEME) => {
            return Ok((curve.unwrap_or_default(), Some(token(uri, arguments.existing_key)?)));
        }
        _ => bail!("--key is neither `p256` nor `p384` nor a `{SCHEME}` URI"),
    };
    if curve.is_some() {
        bail!("--curve is for a --key that is a `{SCHEME}` URI");
    }
    Ok((kind, None))
}

fn token(uri: &str, exists: bool) -> anyhow::Result<NewTokenKey> {
    let uri = KeyUri::parse(uri)?;
    let pin = Pin::of_or_ask(&uri)?;
    Ok(NewTokenKey { key: TokenKey::new(uri, pin)?, exists })
}

fn new_passphrase(arguments: &InitArgs) -> anyhow::Result<String> {
    let source = Source::choose(arguments.passphrase_file.clone(), ROOT_VARIABLE, "Passphrase of the root's key");
    let passphrase = source.read()?;
    if source.is_typed() && Source::Terminal("The same again".into()).read()? != passphrase {
        bail!("the two passphrases differ");
    }
    Ok(passphrase)
}

/// The root's key: as given, as `ca.toml` says, or the file in the authority's folder.
fn root_key(folder: &Path, given: Option<&str>, passphrase_file: Option<PathBuf>) -> anyhow::Result<RootKey> {
    let configured = match given {
        Some(_) => None,
        None => Settings::load(&folder.join("ca.toml"))?.root_key,
    };
    if let Some(uri) = given.filter(|given| given.starts_with(SCHEME)).or(configured.as_deref()) {
        return Ok(RootKey::Token(token(uri, true)?.key));
    }
    let source = Source::choose(passphrase_file, ROOT_VARIABLE, "Passphrase of the root's key");
    Ok(RootKey::File { path: given.map(PathBuf::from), passphrase: source.read()? })
}

fn renew(arguments: &RenewArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = match &arguments.dir {
        Some(_) => None,
        None => Some(Config::load(arguments.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG)))?),
    };
    let folder = folder(arguments.dir.clone(), config.as_ref())?;
    let root = root_key(&folder, arguments.root_key.as_deref(), arguments.passphrase_file.clone())?;
    let end = authority::renew_issuing(&folder, &root, DAY * 365 * arguments.years, UnixTime::now())?;
    if arguments.json {
        writeln!(
            out,
            "{:#}",
            json!({ "issuing_certificate": folder.join("issuing.crt"), "not_after": end.as_secs() })
        )?;
    } else {
        let end = i64::try_from(end.as_secs()).ok().and_then(|end| jiff::Timestamp::from_second(end).ok());
        let end = end.map(|end| end.to_string()).unwrap_or_default();
        writeln!(out, "the issuing CA lasts until {end}; restart the gateway that enrols devices")?;
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
        let key = root_key(&folder, arguments.root_key.as_deref(), arguments.passphrase_file)?;
        authority::renew_root_crl(&folder, &key, now)?;
        if arguments.json {
            writeln!(out, "{:#}", json!({ "list": "root", "number": now.as_secs() }))?;
        } else {
            writeln!(out, "the root's list is published")?;
        }
        return Ok(());
    }
    let path = arguments.store.or_else(|| config.map(|config| config.store.file)).context("no store")?;
    let store = Store::open_existing(&path).await?;
    let published = Ca::load_or_ask(&folder)?.publish(&store, now).await;
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
