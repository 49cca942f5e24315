//! `sekisho.toml`: written once, read back for its addresses.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::error::QuickstartError;
use super::layout::{self, Addresses};

/// The configuration file of a folder.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("sekisho.toml")
}

/// Writes the configuration.
pub(super) fn make(dir: &Path, addresses: &Addresses) -> Result<(), QuickstartError> {
    let Addresses { listen, admin, backend, tunnels } = addresses;
    let text = TEMPLATE
        .replace("{listen}", &listen.to_string())
        .replace("{listen_ip}", &listen.ip().to_string())
        .replace("{admin}", &admin.to_string())
        .replace("{backend}", &backend.to_string())
        .replace("{tunnels}", &tunnels.map(|tunnels| tunnels.to_string()).unwrap_or_default())
        .replace("{trust_domain}", super::cast::TRUST_DOMAIN);
    layout::write(&file(dir), &text, 0o644)
}

/// The addresses that the file says. Whether the rest of it is right, the gateway tells at its start.
pub(super) fn addresses(dir: &Path) -> Result<Addresses, QuickstartError> {
    let file = file(dir);
    let text = fs::read_to_string(&file).map_err(QuickstartError::file(&file))?;
    let fault = |key: &'static str, why: &dyn ToString| QuickstartError::Configuration {
        file: file.clone(),
        key,
        why: why.to_string(),
    };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| fault("anything", &error.message()))?;
    let first = |value: Option<&toml::Value>| value.and_then(|list| list.as_array()?.first().cloned());
    let text = |value: Option<toml::Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let parse = |key: &'static str, text: Option<String>| {
        let text = text.ok_or_else(|| fault(key, &"it is missing"))?;
        let address = text.strip_prefix("http://").unwrap_or(&text);
        address.parse::<SocketAddr>().map_err(|error| fault(key, &error))
    };
    let listener = first(table.get("listener"));
    let listeners = table.get("listener").and_then(toml::Value::as_array).into_iter().flatten();
    // A folder that an earlier version made has none.
    let tunnels = listeners
        .filter(|listener| listener.get("kind").and_then(toml::Value::as_str) == Some("wireguard"))
        .find_map(|listener| listener.get("address").cloned())
        .map(|address| parse("listener.address", text(Some(address))))
        .transpose()?;
    let service = first(table.get("service"));
    let backend = service.and_then(|service| first(service.get("backends")));
    Ok(Addresses {
        listen: parse("listener.address", text(listener.and_then(|listener| listener.get("address").cloned())))?,
        admin: parse("admin.listen", text(table.get("admin").and_then(|admin| admin.get("listen").cloned())))?,
        backend: parse("service.backends", text(backend))?,
        tunnels,
    })
}

const TEMPLATE: &str = include_str!("sekisho.toml");
