//! `sekisho user passwd|totp|recovery`: what users log in by at the gateway itself (R8, R9). Secrets come from the terminal or
//! standard input, never from an argument, which every process on the machine can read; and no command shows one that a user chose.

use std::io::{BufRead as _, IsTerminal as _, Write};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use policy::account::recovery::{self, CODE_BYTES, CODES};
use policy::account::totp::{Algorithm, SECRET_BYTES, Secret};
use policy::account::{Password, Profile};
use policy::login::{AccountName, Spelling};
use zeroize::Zeroizing;

use super::args::user_id;
use super::print::{self, Show};
use crate::accounts::hash::Hasher;
use crate::accounts::sealing::SealingKey;
use crate::accounts::{common, names_of, random, was_used};
use crate::authority::Source;
use crate::config::Account as Settings;
use crate::store::{Account, Credential, Kind, NewHash, Store, UserId};

/// The longest account of how a person was identified, in characters.
const MAX_IDENTIFIED: usize = 200;

/// `sekisho user passwd`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PasswdArgs {
    /// Site and name
    #[arg(value_name = "SITE/USER", value_parser = user_id)]
    pub id: UserId,
    /// Make a random first password and print it
    #[arg(long)]
    pub generate: bool,
    /// How the person was identified; needed where there is a password already, and recorded
    #[arg(long, value_name = "TEXT", value_parser = identified)]
    pub identified_by: Option<String>,
    /// What is configured.
    #[arg(skip)]
    pub settings: Option<Settings>,
}

/// `sekisho user totp`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TotpArgs {
    /// Site and name
    #[arg(value_name = "SITE/USER", value_parser = user_id)]
    pub id: UserId,
    /// Draw the QR code as well
    #[arg(long)]
    pub qr: bool,
    /// SHA-1, for authenticators that know nothing else
    #[arg(long, conflicts_with = "remove")]
    pub sha1: bool,
    /// Take the authenticator and the recovery codes away
    #[arg(long, conflicts_with = "qr", requires = "identified_by")]
    pub remove: bool,
    /// How the person was identified; needed where there is an authenticator already, and recorded
    #[arg(long, value_name = "TEXT", value_parser = identified)]
    pub identified_by: Option<String>,
    /// What is configured.
    #[arg(skip)]
    pub settings: Option<Settings>,
}

/// `sekisho user recovery`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RecoveryArgs {
    /// Site and name
    #[arg(value_name = "SITE/USER", value_parser = user_id)]
    pub id: UserId,
    /// How the person was identified; recorded
    #[arg(long, value_name = "TEXT", value_parser = identified)]
    pub identified_by: String,
}

fn identified(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_good = (3..=MAX_IDENTIFIED).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_good { Ok(text.to_owned()) } else { Err(format!("it must be 3 to {MAX_IDENTIFIED} characters")) }
}

impl Show for Account {
    const KIND: Kind = Kind::Account;
    const COLUMNS: &'static [&'static str] =
        &["ACCOUNT", "PASSWORD SET", "MUST CHANGE", "AUTHENTICATOR", "RECOVERY CODES"];
    fn cells(&self) -> Vec<String> {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let codes = self.recovery_codes.to_string();
        vec![self.id().to_string(), self.password_set.clone(), yes(self.must_change), yes(self.totp), codes]
    }
    fn title(&self) -> String {
        self.id().to_string()
    }
}

fn settings(settings: Option<Settings>) -> anyhow::Result<Settings> {
    settings.context("this command needs the configuration's `[account]`: pass --config instead of --store")
}

async fn found(store: &Store, id: &UserId) -> anyhow::Result<Option<Credential>> {
    store.user_show(id).await?;
    let account =
        AccountName::new(id.user.as_str(), Spelling::default()).map_err(|error| anyhow!("`{id}`: {error}"))?;
    // Another user's, where two names are one spelling; the store says so when it is written.
    Ok(store.account_find(&id.site, &account).await?.filter(|found| found.user == *id))
}

fn now_s() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

/// A line from whoever types: without echo at a terminal, otherwise from standard input.
fn secret(words: &'static str) -> anyhow::Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        return Ok(Zeroizing::new(Source::Terminal(words.into()).read()?));
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut line).context("cannot read standard input")?;
    let text = line.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        bail!("standard input is empty");
    }
    Ok(Zeroizing::new(text.to_owned()))
}

pub(super) async fn passwd(
    arguments: PasswdArgs,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let PasswdArgs { id, generate, identified_by, settings: given } = arguments;
    let settings = settings(given)?;
    let user = store.user_show(&id).await?;
    let before = found(store, &id).await?;
    if before.is_some() && identified_by.is_none() {
        bail!("`{id}` has a password: say by --identified-by how the person was identified who wants another");
    }
    let hasher = Hasher::new(settings.hashing)?;
    let text = if generate { first_password()? } else { typed()? };
    let password = Password::new(&text)?;
    let display_name = user.display_name.to_string();
    let used = |password: &Password| {
        before
            .as_ref()
            .is_some_and(|before| was_used(&hasher, &before.password, &before.history, settings.remember, password))
    };
    let second_factor = before.as_ref().is_some_and(|before| before.totp.is_some());
    common::check(settings.profile, &password, &names_of(&id, &display_name), second_factor, &used)?;
    let new = NewHash {
        password: hasher.hash(&password)?,
        instead_of: None,
        must_change: true,
        is_short: password.characters() < settings.profile.least_characters(false),
        at_s: now_s(),
        remember: settings.remember,
        identified_by,
    };
    let account = store.account_password(actor, &id, new).await?;
    if !generate {
        return Ok(print::done(&account, "has a first password, which must be changed at its first use", json, out)?);
    }
    if json {
        let shown = serde_json::json!({ "account": account, "password": *text });
        return Ok(print::json(&shown, out)?);
    }
    print::done(&account, "has a first password, which must be changed at its first use", json, out)?;
    Ok(writeln!(out, "{}", *text)?)
}

/// Typed twice at a terminal, since nobody sees it.
fn typed() -> anyhow::Result<Zeroizing<String>> {
    let first = secret("first password")?;
    if std::io::stdin().is_terminal() && *secret("again")? != *first {
        bail!("the two are not the same");
    }
    Ok(first)
}

/// 80 random bits in letters that nobody confuses, and good by every profile.
fn first_password() -> anyhow::Result<Zeroizing<String>> {
    loop {
        let text = recovery::code(&random::<CODE_BYTES>()?);
        let password = Password::new(&text)?;
        let is_good = |profile: &Profile| *profile != Profile::Mic2009 || password.mixes_kinds();
        if Profile::ALL.iter().all(is_good) {
            return Ok(text);
        }
    }
}

pub(super) async fn totp(
    arguments: TotpArgs,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let TotpArgs { id, qr, sha1, remove, identified_by, settings: given } = arguments;
    let before = found(store, &id).await?.with_context(|| no_account(&id))?;
    if remove {
        if before.totp.is_none() {
            bail!("`{id}` has no authenticator");
        }
        let account = store.account_totp(actor, &id, None, identified_by).await?;
        return Ok(print::done(&account, "has no authenticator any more", json, out)?);
    }
    let settings = settings(given)?;
    if before.totp.is_some() && identified_by.is_none() {
        bail!("`{id}` has an authenticator: say by --identified-by how the person was identified who wants another");
    }
    let key = SealingKey::load_or_make(&settings.key_file)?;
    let algorithm = if sha1 { Algorithm::Sha1 } else { Algorithm::Sha256 };
    let secret = Secret::new(&random::<SECRET_BYTES>()?, algorithm);
    let uri = Zeroizing::new(secret.uri(&settings.issuer, &id.to_string()));
    // The person's own terminal: it is shown once, and counts once it was understood.
    writeln!(out, "{}", *uri)?;
    if qr {
        draw(&uri, out)?;
    }
    out.flush()?;
    let code = self::secret("code that the authenticator shows")?;
    let step = secret.verify(&code, now_s(), settings.totp_window, None);
    let step = step.context("the code is not right: nothing was changed")?;
    let sealed = key.seal(&id, &secret, Some(step))?;
    let account = store.account_totp(actor, &id, Some(sealed), identified_by).await?;
    print::done(&account, "has an authenticator", json, out)?;
    if !json && account.recovery_codes > 0 {
        // They are factors of their own, on paper (NIST SP 800-63B-4 section 4.2.1): who loses a telephone has them still.
        let left = account.recovery_codes;
        writeln!(
            out,
            "{left} recovery codes from before still count; `sekisho user recovery` makes others in their place"
        )?;
    }
    Ok(())
}

fn draw(uri: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::new(uri).context("the URI does not fit into a QR code")?;
    // Dark terminals show light modules; readers want a light ground.
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(writeln!(out, "{picture}")?)
}

pub(super) async fn recovery(
    RecoveryArgs { id, identified_by }: RecoveryArgs,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let before = found(store, &id).await?.with_context(|| no_account(&id))?;
    if before.totp.is_none() {
        bail!("`{id}` has no authenticator that codes could stand in for");
    }
    let mut codes = Vec::with_capacity(CODES);
    for _ in 0..CODES {
        codes.push(recovery::code(&random::<CODE_BYTES>()?));
    }
    let hashes: Vec<_> = codes.iter().filter_map(|code| recovery::hash(&id.to_string(), code)).collect();
    let account = store.account_recovery(actor, &id, &hashes, Some(identified_by)).await?;
    if json {
        let shown: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        return Ok(print::json(&serde_json::json!({ "account": account, "recovery_codes": shown }), out)?);
    }
    print::done(&account, "has these recovery codes, each for one login", json, out)?;
    for code in &codes {
        writeln!(out, "{}", **code)?;
    }
    Ok(())
}

fn no_account(id: &UserId) -> String {
    format!("`{id}` has no account; `sekisho user passwd` makes one")
}
