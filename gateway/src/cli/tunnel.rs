//! `sekisho tunnel list`: which tunnels are up, in words (R19). The registry says who may come; the running gateway, who came.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use policy::SiteName;
use serde::{Deserialize, Serialize};

use super::registry::RegistryOptions;
use super::{config, terminal};
use crate::http_client::Client;
use crate::store::{Store, WireguardKey};

/// How long the gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes: as many peers as a listener has, with room.
const MAX_ANSWER: usize = 64 << 20;

/// `sekisho tunnel`.
#[derive(Debug, clap::Args)]
pub(super) struct TunnelArgs {
    /// Which store, and how to answer.
    #[command(flatten)]
    options: RegistryOptions,
    #[command(subcommand)]
    command: TunnelCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TunnelCommand {
    /// List every device that may come by WireGuard, and how its tunnel is doing
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those of a site
    site: Option<SiteName>,
    /// The gateway's admin listener; as the configuration says unless said
    #[arg(long, value_name = "URL")]
    admin: Option<Uri>,
    /// Who vouches for it, PEM; needed where it speaks TLS
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The operator's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// What the admin listener says of a tunnel.
#[derive(Debug, Clone, Deserialize)]
struct Said {
    listener: String,
    site: String,
    device: String,
    endpoint: Option<String>,
    up: bool,
    /// Seconds since 1970.
    last_handshake: Option<u64>,
    received_bytes: u64,
    sent_bytes: u64,
    streams: usize,
}

/// One device, as it is shown.
#[derive(Debug, Clone, Serialize)]
struct TunnelStatus {
    site: String,
    device: String,
    /// The listener that it came to.
    listener: Option<String>,
    /// Where its last authenticated message came from.
    endpoint: Option<String>,
    /// Its addresses inside.
    addresses: Vec<String>,
    /// RFC 3339, UTC.
    last_handshake: Option<String>,
    /// Seconds since then.
    last_handshake_age_s: Option<u64>,
    received_bytes: u64,
    sent_bytes: u64,
    streams: usize,
    up: bool,
}

pub(super) async fn run(arguments: &TunnelArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let TunnelCommand::List(list) = &arguments.command;
    let path = super::store_path(&arguments.options)?;
    let store = Store::open_existing(&path).await?;
    let keys = store.wireguard_key_list(list.site.as_ref()).await;
    store.close().await;
    let said = ask(list, &arguments.options).await?;
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let rows = rows(keys?, said, now);
    if arguments.options.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "tunnels": rows }))?;
        for line in text.lines() {
            writeln!(out, "{}", terminal::json(line))?;
        }
        return Ok(());
    }
    table(&rows, out)?;
    Ok(())
}

async fn ask(list: &ListArgs, options: &RegistryOptions) -> anyhow::Result<Vec<Said>> {
    let url = match &list.admin {
        Some(url) => url.clone(),
        None => {
            ensure!(
                options.store.is_none(),
                "say by --admin where the gateway is, or name its configuration by --config"
            );
            let admin = config(options)?.admin;
            let scheme = if admin.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", admin.listen).parse()?
        }
    };
    let identity = list.cert.as_deref().zip(list.key.as_deref());
    let client = Client::with_identity(&url, list.ca.as_deref(), identity, TIMEOUT, MAX_ANSWER);
    let client = client.map_err(anyhow::Error::msg).context("the gateway's admin listener")?;
    let request = Request::get("/tunnels").body(Full::new(Bytes::new()))?;
    let answer = client.exchange(request).await.context("the gateway's admin listener; does it run?")?;
    ensure!(answer.status() == StatusCode::OK, "the gateway's admin listener answers {}", answer.status().as_u16());
    serde_json::from_slice(answer.body()).context("the gateway's admin listener does not list tunnels")
}

/// A row for each key of the registry. What the gateway says of a device without one is over.
fn rows(keys: Vec<WireguardKey>, said: Vec<Said>, now_s: u64) -> Vec<TunnelStatus> {
    let mut of: HashMap<(String, String), Said> = HashMap::new();
    for one in said {
        // A device that went from one listener to another is where it was last.
        let at = (one.site.clone(), one.device.clone());
        let is_later = of.get(&at).is_none_or(|known| known.last_handshake <= one.last_handshake);
        if is_later {
            of.insert(at, one);
        }
    }
    let row = |key: WireguardKey| {
        let said = of.remove(&(key.site.to_string(), key.name.to_string()));
        let handshake = said.as_ref().and_then(|said| said.last_handshake);
        let time = |at: u64| jiff::Timestamp::from_second(i64::try_from(at).ok()?).ok().map(|time| time.to_string());
        TunnelStatus {
            site: key.site.to_string(),
            device: key.name.to_string(),
            listener: said.as_ref().map(|said| said.listener.clone()),
            endpoint: said.as_ref().and_then(|said| said.endpoint.clone()),
            addresses: key.addresses.iter().map(ToString::to_string).collect(),
            last_handshake: handshake.and_then(time),
            last_handshake_age_s: handshake.map(|at| now_s.saturating_sub(at)),
            received_bytes: said.as_ref().map_or(0, |said| said.received_bytes),
            sent_bytes: said.as_ref().map_or(0, |said| said.sent_bytes),
            streams: said.as_ref().map_or(0, |said| said.streams),
            up: said.is_some_and(|said| said.up),
        }
    };
    keys.into_iter().map(row).collect()
}

fn table(rows: &[TunnelStatus], out: &mut dyn Write) -> std::io::Result<()> {
    let header = ["DEVICE", "STATE", "ENDPOINT", "ADDRESSES", "HANDSHAKE", "IN", "OUT"].map(str::to_owned);
    let mut lines = vec![header];
    for row in rows {
        let state = match (row.up, row.last_handshake_age_s) {
            (true, _) => "up",
            (false, Some(_)) => "down",
            (false, None) => "never",
        };
        let endpoint = row.endpoint.as_deref().map_or_else(|| "-".to_owned(), terminal::text);
        let age = row.last_handshake_age_s.map_or_else(|| "-".to_owned(), age);
        let name = format!("{}/{}", row.site, row.device);
        let ways = [size(row.received_bytes), size(row.sent_bytes)];
        let [received, sent] = ways;
        lines.push([name, state.to_owned(), endpoint, row.addresses.join(","), age, received, sent]);
    }
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes / 1_024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(device: &str) -> WireguardKey {
        WireguardKey {
            site: "s".parse().unwrap(),
            name: device.parse().unwrap(),
            public_key: gateway_tunnel::PrivateKey::new([1; 32]).public(),
            preshared_key: true,
            addresses: vec!["10.64.1.1".parse().unwrap()],
            added_at: String::new(),
        }
    }

    #[test]
    fn who_never_came_is_listed_and_who_has_no_key_is_not() {
        let said = r#"[
            {"listener":"l","site":"s","device":"a","endpoint":"192.0.2.7:9","up":true,"last_handshake":940,"received_bytes":20480,"sent_bytes":7,"streams":2},
            {"listener":"m","site":"s","device":"a","endpoint":"192.0.2.8:9","up":false,"last_handshake":900,"received_bytes":1,"sent_bytes":1,"streams":0},
            {"listener":"l","site":"s","device":"gone","endpoint":null,"up":true,"last_handshake":1,"received_bytes":1,"sent_bytes":1,"streams":0}]"#;
        let rows = rows(vec![key("a"), key("b")], serde_json::from_str(said).unwrap(), 1_000);
        let mut out = Vec::new();
        table(&rows, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "DEVICE  STATE  ENDPOINT     ADDRESSES     HANDSHAKE  IN      OUT\n\
             s/a     up     192.0.2.7:9  10.64.1.1/32  60 s       20 KiB  7 B\n\
             s/b     never  -            10.64.1.1/32  -          0 B     0 B\n"
        );
        assert_eq!(rows[0].last_handshake.as_deref(), Some("1970-01-01T00:15:40Z"));
    }

    #[test]
    fn ages_and_sizes_are_short() {
        assert_eq!([119, 120, 7_200, 172_800].map(age), ["119 s", "2 min", "2 h", "2 d"]);
        assert_eq!([9_999, 10_240, 10_485_760].map(size), ["9999 B", "10 KiB", "10 MiB"]);
    }
}
