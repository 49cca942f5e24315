//! `sekisho device key` and `sekisho device add --wireguard`: what devices come by WireGuard with (R1, R3, R27).
//!
//! The private key of a device is made here, shown once, and kept nowhere.

use std::io::{IsTerminal as _, Write};

use anyhow::{Context as _, bail};
use gateway_tunnel::PrivateKey;
use policy::DeviceId;
use serde_json::json;
use zeroize::Zeroizing;

use super::args::{KeyCommand, KeyForm};
use super::print::{self, Show};
use crate::accounts::random;
use crate::authority::Staged;
use crate::cli::terminal;
use crate::store::{Kind, NewDevice, NewWireguardKey, Store, WireguardKey, base64_text};
use crate::tunnels::TunnelListener;

impl Show for WireguardKey {
    const KIND: Kind = Kind::WireguardKey;
    const COLUMNS: &'static [&'static str] = &["DEVICE", "ADDRESSES", "PRESHARED KEY", "SINCE", "PUBLIC KEY"];
    fn cells(&self) -> Vec<String> {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let preshared = if self.preshared_key { "yes" } else { "no" };
        let fixed = [self.id().to_string(), addresses.join(","), preshared.to_owned()];
        [fixed.as_slice(), &[self.added_at.clone(), base64_text(&self.public_key)]].concat()
    }
    fn title(&self) -> String {
        self.id().to_string()
    }
}

pub(super) async fn run(
    command: KeyCommand,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match command {
        KeyCommand::New { id, form } => new(id, None, form, store, actor, json, out).await?,
        KeyCommand::List { site } => print::list(&store.wireguard_key_list(site.as_ref()).await?, json, out)?,
        KeyCommand::Remove { id } => {
            print::removed(&[store.wireguard_key_remove(actor, &id).await?], json, out)?;
        }
    }
    Ok(())
}

/// Gives a device a key; where `device` is given, it is added in the same transaction.
pub(super) async fn new(
    id: DeviceId,
    device: Option<NewDevice>,
    form: KeyForm,
    store: &Store,
    actor: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let tunnels = listener(form.tunnels.as_deref(), form.listener.as_deref())?;
    let private = match form.public_key {
        Some(_) => None,
        None => Some(Zeroizing::new(random::<32>()?)),
    };
    let public_key = match (&private, form.public_key) {
        (_, Some(key)) => key,
        (Some(bytes), None) => PrivateKey::new(**bytes).public(),
        (None, None) => bail!("there is no key"),
    };
    if public_key == tunnels.public_key {
        bail!("the key for device `{id}` is the gateway's own");
    }
    let preshared = Zeroizing::new(random::<32>()?);
    let new = NewWireguardKey {
        id: id.clone(),
        public_key,
        preshared_key: Some(preshared.clone()),
        addresses: Some(form.addresses.clone()).filter(|addresses| !addresses.is_empty()),
        allotment: tunnels.allotment.clone(),
    };
    let draft = store.wireguard_key_draft(actor, device, new).await?;
    let text = tunnels.configuration(&draft.key().addresses, &id, private.as_deref(), &preshared)?;
    // What the device needs is on disk before the key counts, and is no more if it does not.
    let staged = form.out.as_deref().map(|path| Staged::write(path, text.as_bytes())).transpose()?;
    let key = draft.commit().await?;
    let file = form.out.as_ref().map(|path| path.display().to_string());
    if let Some(staged) = staged
        && let Err(error) = staged.commit()
    {
        // What nobody holds must not stay good.
        store.wireguard_key_remove(actor, &id).await?;
        return Err(error).context("the key is taken away again");
    }
    if as_json {
        let shown = file.is_none().then_some(text.as_str());
        return Ok(print::json(&json!({ "wireguard-key": key, "configuration": shown, "file": file }), out)?);
    }
    match &file {
        Some(file) => {
            print::done(&key, "given", false, out)?;
            writeln!(out, "written: {}", terminal::text(file))?;
        }
        None => write!(out, "{}", *text)?,
    }
    let is_terminal = std::io::stdout().is_terminal();
    if private.is_some() && (form.qr || (is_terminal && file.is_none())) {
        draw(&text, is_terminal || file.is_some(), out)?;
    }
    Ok(())
}

fn listener<'t>(tunnels: Option<&'t [TunnelListener]>, name: Option<&str>) -> anyhow::Result<&'t TunnelListener> {
    let tunnels = tunnels.context("name the configuration by --config: it says where tunnels end")?;
    let names = || tunnels.iter().map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", ");
    match (tunnels, name) {
        ([], _) => bail!("the configuration has no listener of kind `wireguard`"),
        ([one], None) => Ok(one),
        (several, Some(name)) => several.iter().find(|one| one.name == name).with_context(|| {
            format!("no listener of kind `wireguard` is named `{}`; there are {}", name.escape_debug(), names())
        }),
        (_, None) => bail!("say by --listener to which it comes: {}", names()),
    }
}

/// Draws what WireGuard's apps read. Where it goes into a configuration, each line is a comment there.
fn draw(text: &str, is_bare: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    use qrcode::render::unicode::Dense1x2;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let short = Zeroizing::new(lines.flat_map(|line| [line, "\n"]).collect::<String>());
    let code = qrcode::QrCode::with_error_correction_level(short.as_bytes(), qrcode::EcLevel::L);
    let code = code.context("the configuration does not fit into a QR code")?;
    // Dark terminals show light modules; readers want a light ground.
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    for line in Zeroizing::new(picture).lines() {
        writeln!(out, "{}{line}", if is_bare { "" } else { "# " })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
