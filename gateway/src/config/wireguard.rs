//! Listeners that WireGuard tunnels end at.

use std::net::IpAddr;
use std::path::PathBuf;

use gateway_tunnel::Network;

/// What a listener of tunnels has beside what all have (R3, R14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireGuard {
    /// The gateway's private key, 32 bytes in Base64 as `wg genkey` writes it; readable by its owner only. Made at the first
    /// start if it is absent.
    pub private_key_file: PathBuf,
    /// Host and port that clients' configurations name.
    pub endpoint: String,
    /// The gateway's own addresses inside the tunnels, 1 to 8.
    pub inside: Vec<IpAddr>,
    /// The TCP ports that are served inside, each once: those of HTTP, and those of streams.
    pub ports: Vec<u16>,
    /// Out of what sites get ranges, and devices addresses. Of a version of IP that is not there, nobody gets any.
    pub site_ranges: Vec<Network>,
    /// How many bits the IPv4 addresses of one site have in common.
    pub site_prefix: u8,
    /// How many bits the IPv6 addresses of one site have in common.
    pub site_prefix_v6: u8,
    /// Whether DNS inside answers the listener's host names with `inside`.
    pub dns: bool,
    /// The MTU inside, in bytes.
    pub mtu: u16,
    /// Whether TLS is spoken inside the tunnels.
    pub inside_tls: InsideTls,
    /// Whether devices are asked for a certificate in that.
    pub client_certificate: Asking,
}

/// Whether TLS is spoken inside tunnels: WireGuard's own suite is not on the CRYPTREC list (R15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsideTls {
    /// Who does not begin with a handshake is refused.
    Required,
    /// The first byte tells.
    Optional,
    /// HTTP/1.1 alone.
    Off,
}

/// Whether a certificate is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Nobody is asked.
    Off,
    /// One that is shown must be the same device's.
    Optional,
    /// One must be shown, and be the same device's.
    Required,
}

/// The listener of tunnels that the configuration's example has.
#[cfg(test)]
pub(crate) fn example() -> super::Listener {
    let text = include_str!("../../../deploy/sekisho.toml");
    let text: String = text.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n").collect();
    let config = super::Config::parse(&text, std::path::Path::new("/"), &|_| None).unwrap();
    config.listeners.into_iter().find(|listener| listener.wireguard.is_some()).unwrap()
}
