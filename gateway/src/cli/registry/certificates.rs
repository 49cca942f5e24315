//! `sekisho device enrol|revoke|code|certificates`: what devices prove themselves with (R3, R27).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use certs::issue::RequestedKey;
use policy::DeviceId;
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use super::args::{CodeArgs, EnrolArgs, RevokeArgs};
use super::print;
use crate::authority::{Ca, Issued, Source, Staged, code};
use crate::store::{Certificate, Origin, Right, Store};

/// The largest certification request's file.
const MAX_REQUEST_FILE: u64 = 64 * 1024;

pub(super) async fn enrol(
    arguments: EnrolArgs,
    store: &Store,
    actor: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let ca = load(arguments.ca.as_deref())?;
    let id = &arguments.id;
    store.device_show(id).await?;
    let now = UnixTime::now();
    let lifetime = arguments.days.map(|days| crate::authority::DAY * days);
    let made = make(&arguments, &ca, lifetime, now)?;
    store.certificate_add(actor, &made.issued.entry, Right::Operator, now.as_secs()).await?;
    let files: Vec<String> = made.files.iter().map(|(path, _)| path.display().to_string()).collect();
    for (path, staged) in made.files {
        if let Err(error) = staged.commit() {
            // What nobody holds must not stay valid.
            let serial = Some(made.issued.entry.serial.as_str());
            store.certificates_revoke(actor, id, serial, "unspecified", now.as_secs()).await?;
            ca.publish(store, now).await?;
            return Err(error).with_context(|| format!("`{}`: the certificate is revoked again", path.display()));
        }
    }
    tell(id, &made.issued.entry, &files, made.password.as_deref(), made.chain.as_deref(), as_json, out)
}

/// What is recorded first, and then gets its name.
struct Made {
    issued: Issued,
    files: Vec<(PathBuf, Staged)>,
    password: Option<String>,
    /// The chain, where it goes to standard output.
    chain: Option<String>,
}

fn make(arguments: &EnrolArgs, ca: &Ca, lifetime: Option<Duration>, now: UnixTime) -> anyhow::Result<Made> {
    let id = &arguments.id;
    let stage = |path: PathBuf, bytes: &[u8]| -> anyhow::Result<(PathBuf, Staged)> {
        let staged = Staged::write(&path, bytes)?;
        Ok((path, staged))
    };
    if let Some(csr) = &arguments.csr {
        let named = || format!("`{}`", csr.display());
        let length = std::fs::metadata(csr).with_context(named)?.len();
        anyhow::ensure!(length <= MAX_REQUEST_FILE, "`{}` is too large for a certification request", csr.display());
        let key = RequestedKey::read(&std::fs::read(csr).with_context(named)?).with_context(named)?;
        let issued = ca.certify(&key, id, Origin::Request, lifetime, now)?;
        let chain = ca.chain_pem(&issued.certified)?;
        return match &arguments.out {
            Some(path) => {
                let files = vec![stage(path.clone(), chain.as_bytes())?];
                Ok(Made { issued, files, password: None, chain: None })
            }
            None => Ok(Made { issued, files: Vec::new(), password: None, chain: Some(chain) }),
        };
    }
    let (key, issued) = ca.certify_new(id, lifetime, now)?;
    if let Some(path) = &arguments.p12 {
        let given = arguments.password_file.clone().map(|file| Source::File(file).read()).transpose()?;
        let password = given.clone().map_or_else(code::draw, Ok)?;
        let files = vec![stage(path.clone(), &ca.pkcs12(&key, &issued, &password)?)?];
        // A password that was given is known, and not repeated.
        let password = given.is_none().then_some(password);
        return Ok(Made { issued, files, password, chain: None });
    }
    let folder = arguments.pem.as_deref().context("nothing says where the certificate goes")?;
    std::fs::create_dir_all(folder).with_context(|| format!("`{}`", folder.display()))?;
    let at = |end: &str| folder.join(format!("{}.{end}", id.device));
    let files = vec![
        stage(at("key"), key.pem().expose().as_bytes())?,
        stage(at("crt"), ca.chain_pem(&issued.certified)?.as_bytes())?,
    ];
    Ok(Made { issued, files, password: None, chain: None })
}

fn tell(
    id: &DeviceId,
    entry: &Certificate,
    files: &[String],
    password: Option<&str>,
    chain: Option<&str>,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if as_json {
        let mut value = json!({ "certificate": entry, "files": files });
        if let Value::Object(fields) = &mut value {
            fields.extend(password.map(|password| ("password".to_owned(), json!(password))));
            fields.extend(chain.map(|chain| ("pem".to_owned(), json!(chain))));
        }
        print::json(&value, out)?;
        return Ok(());
    }
    if let Some(chain) = chain {
        write!(out, "{chain}")?;
        return Ok(());
    }
    writeln!(out, "device `{id}` enrolled until {}; serial number {}", day(entry.not_after), entry.serial)?;
    for file in files {
        writeln!(out, "written: {}", crate::cli::terminal::text(file))?;
    }
    if let Some(password) = password {
        writeln!(out, "password: {password}")?;
        writeln!(out, "it is shown this once; bring it to the device another way than the file")?;
    }
    Ok(())
}

pub(super) async fn revoke(
    arguments: RevokeArgs,
    store: &Store,
    actor: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let now = UnixTime::now();
    let serial = arguments.serial.as_ref().map(|serial| serial.to_ascii_lowercase().replace(':', ""));
    let known = store.certificates_of(&arguments.id).await?;
    if known.is_empty() {
        // Says what is wrong with the name, if anything is.
        store.device_show(&arguments.id).await?;
        anyhow::bail!("device `{}` was given no certificate by this authority", arguments.id);
    }
    if let Some(serial) = &serial {
        let found = known.iter().any(|certificate| certificate.serial == *serial);
        anyhow::ensure!(found, "device `{}` has no certificate of serial number `{serial}`", arguments.id);
    }
    let reason = arguments.reason.name();
    let revoked = store.certificates_revoke(actor, &arguments.id, serial.as_deref(), reason, now.as_secs()).await?;
    // Revoked is revoked: what keeps the list from being published is told, and takes nothing back.
    let published = async { Ok::<_, anyhow::Error>(load(arguments.ca.as_deref())?.publish(store, now).await?) };
    let published = published.await.context("the certificates are revoked, and the list is not published");
    let number = published.as_ref().ok().map(|draft| draft.number);
    if as_json {
        print::json(&json!({ "revoked": revoked, "crl_number": number }), out)?;
    } else if revoked.is_empty() {
        writeln!(out, "device `{}` is so already; nothing changed", arguments.id)?;
    } else {
        for certificate in &revoked {
            writeln!(out, "certificate `{}` of device `{}` revoked: {reason}", certificate.serial, arguments.id)?;
        }
    }
    published.map(drop)
}

pub(super) async fn new_code(
    arguments: CodeArgs,
    store: &Store,
    actor: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let code = code::draw()?;
    let now = UnixTime::now().as_secs();
    let expires_at = now.saturating_add(arguments.valid.as_secs());
    store.code_add(actor, &arguments.id, &code::hash(&code), expires_at, now).await?;
    if as_json {
        let device = arguments.id.to_string();
        print::json(&json!({ "device": device, "code": code, "expires_at": expires_at }), out)?;
    } else {
        writeln!(out, "{code}")?;
        writeln!(out, "for device `{}`, once, until {}; it is not shown again", arguments.id, day(expires_at))?;
    }
    Ok(())
}

pub(super) async fn list(id: &DeviceId, store: &Store, as_json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let all = store.certificates_of(id).await?;
    if all.is_empty() {
        store.device_show(id).await?;
    }
    if as_json {
        print::json(&json!({ "certificates": all }), out)?;
        return Ok(());
    }
    writeln!(out, "{:<32}  {:<20}  {:<20}  STATUS", "SERIAL", "FROM", "UNTIL")?;
    let now = UnixTime::now().as_secs();
    for entry in &all {
        let status = match (&entry.revoked_at, entry.reason.as_deref()) {
            (Some(at), reason) => format!("revoked {} ({})", day(*at), reason.unwrap_or("unspecified")),
            (None, _) if entry.not_after < now => "expired".to_owned(),
            (None, _) => "valid".to_owned(),
        };
        let (from, until) = (day(entry.not_before), day(entry.not_after));
        writeln!(out, "{:<32}  {from:<20}  {until:<20}  {status}", entry.serial)?;
    }
    Ok(())
}

fn load(folder: Option<&Path>) -> anyhow::Result<Ca> {
    let folder =
        folder.context("no folder of an authority: give --ca, or set `enrolment.directory` in the configuration")?;
    Ok(Ca::load_or_ask(folder)?)
}

/// A time for people.
fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}
