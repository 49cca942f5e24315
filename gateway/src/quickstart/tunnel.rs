//! A device that cannot show a certificate and comes by WireGuard: no interface, no root, nothing of this machine is changed.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_tunnel::client::ClientConfig;
use gateway_tunnel::{Network, PresharedKey, PrivateKey, PublicKey};
use http::Request;
use http::header::HOST;
use http_body_util::Full;
use policy::{DeviceId, DeviceName, SiteName, UserName};
use tokio::io::DuplexStream;
use zeroize::Zeroizing;

use super::check::{Line, sight, text};
use super::client::{Client, Seen, Version};
use super::layout::{self, Layout};
use super::{configuration, log};
use crate::config::Config;
use crate::store::{NewDevice, NewWireguardKey, Store};
use crate::tunnels::{TunnelListener, dial};

/// The device, and whose it is.
const SITE: &str = "sakura-clinic";
/// The configuration has its name, and so has the interface, which has fifteen characters at most.
const DEVICE: &str = "home-visit";
const DISPLAY_NAME: &str = "訪問診療";
const USER: &str = "dr-yamamoto";

/// Where the gateway is inside the tunnels.
pub(super) const INSIDE: &str = "10.64.0.1";
const PORT: u16 = 443;
/// What the tablet reads.
pub(super) const TARGET: &str = "/fhir/Patient/yamada-hanako";
/// For so long a stranger waits for an answer that is not to come.
const SILENCE: Duration = Duration::from_secs(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The device's configuration, as `wg-quick` takes it.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("clients").join(SITE).join(format!("{DEVICE}.conf"))
}

/// Registers the device with a key of its own, and writes its configuration.
pub(super) async fn register(store: &Store, actor: &str, dir: &Path) -> Result<(), Failure> {
    let config = Config::load(&configuration::file(dir))?;
    let listeners = TunnelListener::of(&config)?;
    let listener = listeners.first().ok_or("the configuration has no listener of tunnels")?;
    let id = DeviceId { site: SiteName::new(SITE)?, device: DeviceName::new(DEVICE)? };
    let (private, preshared) = (random()?, random()?);
    let device = NewDevice {
        id: id.clone(),
        display_name: DISPLAY_NAME.parse()?,
        user: Some(UserName::new(USER)?),
        roles: Vec::new(),
    };
    let key = NewWireguardKey {
        id: id.clone(),
        public_key: PrivateKey::new(*private).public(),
        preshared_key: Some(preshared.clone()),
        addresses: None,
        allotment: listener.allotment.clone(),
    };
    let draft = store.wireguard_key_draft(actor, Some(device), key).await?;
    let text = listener.configuration(&draft.key().addresses, &id, Some(&private), &preshared)?;
    layout::write(&file(dir), &text, 0o600)?;
    draft.commit().await?;
    Ok(())
}

fn random() -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| "the system gives no random bytes")?;
    Ok(bytes)
}

/// The device's end of a tunnel.
pub(super) struct Tunnel {
    config: ClientConfig,
    endpoint: SocketAddr,
}

impl Tunnel {
    /// As the device's configuration says.
    fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("`{}`: {error}", file.display()))?;
        Self::parse(&text).ok_or_else(|| format!("`{}` is not as it was made", file.display()))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines
                .map(|(name, value)| (name.trim(), value.trim()))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value)
        };
        let bytes = |key: &str| STANDARD.decode(value(key)?).ok()?.try_into().ok();
        let addresses = value("Address")?.split(',').map(|one| one.trim().parse().map(|own: Network| own.address()));
        let config = ClientConfig {
            key: PrivateKey::new(bytes("PrivateKey")?),
            gateway: PublicKey(bytes("PublicKey")?),
            preshared_key: Some(PresharedKey::new(bytes("PresharedKey")?)),
            addresses: addresses.collect::<Result<_, _>>().ok()?,
            mtu: value("MTU")?.parse().ok()?,
        };
        Some(Self { config, endpoint: value("Endpoint")?.parse().ok()? })
    }

    /// Opens the tunnel, and a connection to the gateway in it.
    pub(super) async fn connect(&self) -> std::io::Result<DuplexStream> {
        let inside: IpAddr = INSIDE.parse().map_err(std::io::Error::other)?;
        dial(&self.config, self.endpoint, SocketAddr::new(inside, PORT)).await
    }
}

/// Asks through the tunnel, and with a key that nobody registered. Returns a line for each, and what the audit log must know.
pub(super) async fn play(layout: &Layout) -> (Vec<Line>, Vec<log::Trace>) {
    const TITLE: &str = "by WireGuard";
    let client = |tunnel| Client::through(tunnel, layout.addresses().listen, &layout.ca_certificate());
    let own = Tunnel::read(&file(layout.dir())).and_then(client);
    let stranger = Tunnel::read(&file(layout.dir())).and_then(|tunnel| {
        let key = PrivateKey::new(*random().map_err(|error| error.to_string())?);
        client(Tunnel { config: ClientConfig { key, ..tunnel.config }, endpoint: tunnel.endpoint })
    });
    let (own, stranger) = match (own, stranger) {
        (Ok(own), Ok(stranger)) => (own, stranger),
        (Err(why), _) | (_, Err(why)) => return (vec![Line::of(TITLE, "200", why, false)], Vec::new()),
    };
    let seen = ask(&own).await;
    let id = match &seen {
        Seen::Answer { headers, .. } => text(headers, "x-request-id").map(str::to_owned),
        Seen::Alert(_) | Seen::Failed(_) => None,
    };
    let agrees = matches!(seen, Seen::Answer { status: 200, .. }) && id.is_some();
    let mut lines = vec![Line::of(TITLE, "200", sight(&seen, id.is_some()), agrees)];
    let answered = tokio::time::timeout(SILENCE, ask(&stranger)).await;
    let heard = answered.as_ref().map_or_else(|_| "silence".to_owned(), |seen| sight(seen, true));
    // Silence tells something only where somebody else is answered.
    lines.push(Line::of("by an unknown key", "silence", heard, answered.is_err() && agrees));
    (lines, id.map(log::Trace::Request).into_iter().collect())
}

async fn ask(client: &Client) -> Seen {
    // The name that the client asks the certificate for.
    match Request::get(TARGET).header(HOST, "localhost").body(Full::default()) {
        Ok(request) => client.ask(None, Version::H1, request).await,
        Err(error) => Seen::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_was_changed_is_not_taken() {
        let key = STANDARD.encode([7; 32]);
        let whole = format!(
            "[Interface]\nPrivateKey = {key}\nAddress = 10.64.1.2/32, fd64::2/128\nMTU = 1360\n[Peer]\nPublicKey = {key}\n\
             PresharedKey = {key}\nEndpoint = 127.0.0.1:51820\n"
        );
        let read = Tunnel::parse(&whole).unwrap();
        assert_eq!((read.config.addresses.len(), read.config.mtu, read.endpoint.port()), (2, 1360, 51820));
        for line in whole.lines().filter(|line| line.contains('=')) {
            assert!(Tunnel::parse(&whole.replace(line, "")).is_none(), "without {line}");
        }
    }
}
